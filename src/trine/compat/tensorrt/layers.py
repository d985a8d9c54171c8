"""The layer classes, with TensorRT's properties. What they compute is said in ``trine.network``."""

from __future__ import annotations

from typing import Any

from trine.compat.tensorrt import properties as p
from trine.compat.tensorrt.dims import Dims
from trine.compat.tensorrt.layer import ILayer

__all__ = [
    "IActivationLayer",
    "IConcatenationLayer",
    "IConstantLayer",
    "IConvolutionLayer",
    "IDeconvolutionLayer",
    "IFullyConnectedLayer",
    "IGatherLayer",
    "IIdentityLayer",
    "ILRNLayer",
    "IMatrixMultiplyLayer",
    "IPaddingLayer",
    "IParametricReLULayer",
    "IPoolingLayer",
    "IReduceLayer",
    "IResizeLayer",
    "IScaleLayer",
    "IScatterLayer",
    "ISelectLayer",
    "IShapeLayer",
    "IShuffleLayer",
    "ISliceLayer",
    "ISoftMaxLayer",
    "ITopKLayer",
    "IUnaryLayer",
]


class _Convolving(ILayer):
    num_output_maps = p.integer("num_output_maps", "How many feature maps it gives.")
    kernel_size_nd = p.dims("kernel_size_nd", "The kernel's spatial size.")
    stride_nd = p.dims("stride_nd", "Steps, one for each spatial dimension.")
    padding_nd = p.dims("padding_nd", "Padding on both sides, one for each spatial dimension.")
    pre_padding = p.dims("pre_padding", "Padding before.")
    post_padding = p.dims("post_padding", "Padding after.")
    dilation_nd = p.dims("dilation_nd", "Distances between the kernel's elements.")
    padding_mode = p.enum("padding_mode", "PaddingMode", "How padding and rounding are chosen.")
    num_groups = p.integer("num_groups", "How many groups the channels are in.")
    kernel = p.weights("kernel", "The kernel's weights.")
    bias = p.weights("bias", "The bias; empty for none.")
    stride = p.old_name("stride", "stride_nd")
    padding = p.old_name("padding", "padding_nd")
    kernel_size = p.old_name("kernel_size", "kernel_size_nd")


class IConvolutionLayer(_Convolving):
    """A convolution over two or three spatial dimensions."""

    dilation = p.old_name("dilation", "dilation_nd")


class IDeconvolutionLayer(_Convolving):
    """A transposed convolution."""


class IFullyConnectedLayer(ILayer):
    """Multiplies the last three dimensions, flattened, by a matrix (TensorRT 8 and older)."""

    num_output_channels = p.integer("num_output_channels", "How many channels it gives.")
    kernel = p.weights("kernel", "The matrix's values.")
    bias = p.weights("bias", "The bias; empty for none.")


class IPoolingLayer(ILayer):
    """The maximum or average of windows."""

    type = p.enum("type", "PoolingType", "What it takes of each window.", onto="pooling_type")
    window_size_nd = p.dims("window_size_nd", "The window's size.")
    stride_nd = p.dims("stride_nd", "Steps, one for each spatial dimension.")
    padding_nd = p.dims("padding_nd", "Padding on both sides.")
    pre_padding = p.dims("pre_padding", "Padding before.")
    post_padding = p.dims("post_padding", "Padding after.")
    padding_mode = p.enum("padding_mode", "PaddingMode", "How padding and rounding are chosen.")
    average_count_excludes_padding = p.boolean("average_count_excludes_padding", "Whether padding does not count.")
    blend_factor = p.number("blend_factor", "How much of the average MAX_AVERAGE_BLEND takes.")
    window_size = p.old_name("window_size", "window_size_nd")
    windnow_size_nd = p.old_name("windnow_size_nd", "window_size_nd")  # TensorRT 8.2's own spelling
    stride = p.old_name("stride", "stride_nd")
    padding = p.old_name("padding", "padding_nd")


class IActivationLayer(ILayer):
    """A function of each element."""

    type = p.enum("type", "ActivationType", "The function.", onto="activation_type")
    alpha = p.number("alpha", "The function's first parameter, where it has one.")
    beta = p.number("beta", "The function's second parameter, where it has one.")


class ILRNLayer(ILayer):
    """Local response normalisation across channels."""

    window_size = p.integer("window_size", "How many channels.")
    alpha = p.number("alpha", "The factor.")
    beta = p.number("beta", "The exponent.")
    k = p.number("k", "What is added.")


class IScaleLayer(ILayer):
    """(x * scale + shift) ** power, for all, for each channel or for each element."""

    mode = p.enum("mode", "ScaleMode", "What shares the weights.")
    shift = p.weights("shift", "What is added.")
    scale = p.weights("scale", "The factor.")
    power = p.weights("power", "The exponent.")
    channel_axis = p.axis("channel_axis", "The channels' dimension.")


class ISoftMaxLayer(ILayer):
    """Softmax along one dimension."""

    axes = p.axes("axes", "The dimension's bit.")


class IConcatenationLayer(ILayer):
    """Inputs one after the other."""

    axis = p.axis("axis", "Along which dimension.")


class IUnaryLayer(ILayer):
    """A function of each element."""

    op = p.enum("op", "UnaryOperation", "The function.")


class IReduceLayer(ILayer):
    """A sum, product, maximum, minimum or average along dimensions."""

    op = p.enum("op", "ReduceOperation", "What is taken.")
    axes = p.axes("axes", "The dimensions' bits.")
    keep_dims = p.boolean("keep_dims", "Whether reduced dimensions stay, of size 1.")


class IPaddingLayer(ILayer):
    """Zeros around the two last dimensions; negative numbers cut off."""

    pre_padding_nd = p.dims("pre_padding_nd", "How much before.")
    post_padding_nd = p.dims("post_padding_nd", "How much after.")
    pre_padding = p.old_name("pre_padding", "pre_padding_nd")
    post_padding = p.old_name("post_padding", "post_padding_nd")


class IParametricReLULayer(ILayer):
    """x where it is positive, slope * x elsewhere."""


class IShuffleLayer(ILayer):
    """A transposition, a reshape and a transposition."""

    first_transpose = p.permutation("first_transpose", "The first transposition.")
    reshape_dims = p.whole_shape("reshape_dims", "The new shape; 0 copies a dimension, -1 infers one.", batch=0)
    second_transpose = p.permutation("second_transpose", "The second transposition.")
    zero_is_placeholder = p.boolean("zero_is_placeholder", "Whether 0 copies a dimension.")


class ISliceLayer(ILayer):
    """Part of a tensor, or more than it, as ``mode`` fills."""

    start = p.dims("start", "Where it starts.")
    shape = p.dims("shape", "How much it takes.")
    stride = p.dims("stride", "Steps.")
    mode = p.enum("mode", "SampleMode", "What is outside.")

    @property
    def axes(self) -> Any:
        """The dimensions that start, shape and stride are for; all by default."""
        return self._layer.axes

    @axes.setter
    def axes(self, axes: Any) -> None:
        self._layer.axes = tuple(int(item) + self._network._hidden_axes for item in axes)


class IShapeLayer(ILayer):
    """A tensor's shape."""


class ITopKLayer(ILayer):
    """The k largest or smallest along a dimension, and where they are."""

    op = p.enum("op", "TopKOperation", "Largest or smallest.")
    k = p.integer("k", "How many.")
    axes = p.axes("axes", "The dimension's bit.")
    indices_type = p.dtype("indices_type", "The type of where they are.")


class IMatrixMultiplyLayer(ILayer):
    """A product of matrices, the dimensions before them broadcast."""

    op0 = p.enum("op0", "MatrixOperation", "What is done to the first before.")
    op1 = p.enum("op1", "MatrixOperation", "What is done to the second before.")


class IGatherLayer(ILayer):
    """Elements at indices."""

    axis = p.axis("axis", "Along which dimension.")
    num_elementwise_dims = p.integer("num_elementwise_dims", "How many leading dimensions go together.")
    mode = p.enum("mode", "GatherMode", "How indices are read.")


class IScatterLayer(ILayer):
    """A tensor with elements replaced."""

    axis = p.axis("axis", "Along which dimension.")
    mode = p.enum("mode", "ScatterMode", "How indices are read.")


class ISelectLayer(ILayer):
    """Elements of one tensor or of another."""


class IConstantLayer(ILayer):
    """Values known when the network is made."""

    weights = p.weights("weights", "The values.")
    shape = p.whole_shape("shape", "Their shape.", batch=1)


class IIdentityLayer(ILayer):
    """A copy, converted where the output's type was set."""


class IResizeLayer(ILayer):
    """A picture of another size."""

    resize_mode = p.enum("resize_mode", "InterpolationMode", "How values in between are found.")
    coordinate_transformation = p.enum(
        "coordinate_transformation", "ResizeCoordinateTransformation", "Where a new pixel lies among the old."
    )
    selector_for_single_pixel = p.enum("selector_for_single_pixel", "ResizeSelector", "What one pixel is made of.")
    nearest_rounding = p.enum("nearest_rounding", "ResizeRoundMode", "Which neighbour is the nearest.")
    exclude_outside = p.boolean("exclude_outside", "Whether what is outside has no weight.")
    cubic_coeff = p.number("cubic_coeff", "The cubic's coefficient.")

    @property
    def shape(self) -> Dims:
        """The new shape."""
        output = self.get_output(0)
        return Dims() if output is None else output.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        sizes = tuple(int(item) for item in shape)
        if not self._network._hidden_axes:
            self._network._attempt("IResizeLayer::setOutputDimensions", lambda: setattr(self._layer, "shape", sizes))
            return
        source = self.get_input(0)
        assert source is not None
        self.scales = [new / old for new, old in zip(sizes, source.shape, strict=True)]

    @property
    def scales(self) -> list[float]:
        """A factor for each dimension."""
        found = self._layer.scales
        return [] if found is None else list(found)[self._network._hidden_axes :]

    @scales.setter
    def scales(self, scales: Any) -> None:
        factors = (1.0,) * self._network._hidden_axes + tuple(float(item) for item in scales)
        self._network._attempt("IResizeLayer::setScales", lambda: setattr(self._layer, "scales", factors))

    @property
    def align_corners(self) -> bool:
        """Whether the corners' pixels stay (TensorRT 7; ``coordinate_transformation`` since)."""
        return bool(self.coordinate_transformation.name == "ALIGN_CORNERS")

    @align_corners.setter
    def align_corners(self, value: bool) -> None:
        self.coordinate_transformation = "ALIGN_CORNERS" if value else "HALF_PIXEL"
