"""Layers that slide a window over the spatial dimensions with weights, and the fully connected one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from trine.network.layer import Layer, sized
from trine.network.operations import LayerType, PaddingMode
from trine.network.settings import Setting, choice, optional, spatial, weights, whole, window
from trine.network.writer import Dim, Writer

__all__ = ["ConvolutionLayer", "DeconvolutionLayer", "FullyConnectedLayer", "WindowLayer", "check_spatial"]


def _ones(layer: Layer) -> tuple[int, ...]:
    return (1,) * layer.spatial_rank


def _zeros(layer: Layer) -> tuple[int, ...]:
    return (0,) * layer.spatial_rank


def check_spatial(w: Writer, value: ir.Value, count: int) -> None:
    """The input must have batch, channel and ``count`` spatial dimensions."""
    if w.rank(value) != count + 2:
        raise w.error(
            f"expected {count + 2} dimensions (batch, channels and {count} spatial), got {w.rank(value)}: "
            f"{w.dims(value)}; add dimensions with add_shuffle"
        )


class WindowLayer(Layer):
    """What convolution, deconvolution and pooling share: a window's stride and padding."""

    stride_nd = Setting(spatial(1), _ones)
    pre_padding = Setting(spatial(0), _zeros)
    post_padding = Setting(spatial(None), _zeros)
    padding_mode = Setting(choice(PaddingMode), PaddingMode.EXPLICIT_ROUND_DOWN)

    @property
    def padding_nd(self) -> tuple[int, ...]:
        """Padding on both sides of each spatial dimension; can be set to one number for all."""
        return self.pre_padding

    @padding_nd.setter
    def padding_nd(self, padding: Any) -> None:
        checked = spatial(0)(self, f"{self.where}: padding_nd", padding)
        self._change_settings({"pre_padding": checked, "post_padding": checked})

    @property
    def window(self) -> tuple[int, ...]:
        """The window's sizes."""
        raise NotImplementedError

    @property
    def spatial_rank(self) -> int:
        """How many dimensions the window has."""
        return len(self.window)

    def pads(self, w: Writer, value: ir.Value, extents: Sequence[int]) -> dict[str, Any]:
        """ONNX's attributes for the padding of windows that cover ``extents``, of convolution and pooling.

        SAME padding is computed where the sizes are known, and left to the backend where they are not.
        """
        if self.padding_mode in (PaddingMode.EXPLICIT_ROUND_DOWN, PaddingMode.EXPLICIT_ROUND_UP):
            if min(self.post_padding, default=0) < 0:
                raise w.error(f"post_padding must be at least 0, got {self.post_padding}")
            return {"pads": [*self.pre_padding, *self.post_padding]}
        upper = self.padding_mode is PaddingMode.SAME_UPPER
        begin, end = [], []
        for size, stride, extent in zip(w.dims(value)[2:], self.stride_nd, extents, strict=True):
            if not isinstance(size, int):
                return {"auto_pad": "SAME_UPPER" if upper else "SAME_LOWER"}
            total = max((size - 1) // stride * stride + extent - size, 0)
            begin.append(total // 2 if upper else total - total // 2)
            end.append(total - begin[-1])
        return {"pads": [*begin, *end]}

    def check_fits(self, w: Writer, value: ir.Value, extents: Sequence[int], pads: dict[str, Any]) -> None:
        """The padded input must hold at least one window."""
        if "pads" not in pads:
            return
        count = len(extents)
        for axis, (size, extent) in enumerate(zip(w.dims(value)[2:], extents, strict=True)):
            padded = None if not isinstance(size, int) else size + pads["pads"][axis] + pads["pads"][axis + count]
            if padded is not None and padded < extent:
                raise w.unfinished(
                    f"the window covers {extent} along spatial dimension {axis}, but the padded input has only "
                    f"{padded}; set a padding, or a smaller window or dilation"
                )


class _WeightedWindow(WindowLayer):
    """What convolution and deconvolution share: weights, groups, dilation."""

    max_inputs: ClassVar[int] = 3

    kernel_size_nd = Setting(window)
    num_output_maps = Setting(whole(1))
    dilation_nd = Setting(spatial(1), _ones)
    num_groups = Setting(whole(1), 1)
    kernel = Setting(weights)
    bias = Setting(optional(weights))

    @property
    def window(self) -> tuple[int, ...]:
        """The window's sizes."""
        return self.kernel_size_nd

    @property
    def extents(self) -> tuple[int, ...]:
        """How far the window reaches, holes included."""
        return tuple(
            1 + dilation * (size - 1) for dilation, size in zip(self.dilation_nd, self.kernel_size_nd, strict=True)
        )

    def kernel_shape(self, channels: int) -> tuple[int, ...]:
        """The shape of the weights for this many input channels."""
        raise NotImplementedError

    def weights_value(self, w: Writer, inputs: list[Any]) -> ir.Value:
        """The weights as a value: those of input 1 if there is one, else the constants."""
        channels = w.dims(inputs[0])[1]
        if not isinstance(channels, int):
            raise w.error(f"the number of input channels must be known, got {channels!r}")
        if channels % self.num_groups or self.num_output_maps % self.num_groups:
            raise w.unfinished(
                f"num_groups={self.num_groups} must divide the {channels} input channels and the "
                f"{self.num_output_maps} output maps"
            )
        shape = self.kernel_shape(channels)
        if len(inputs) > 1 and inputs[1] is not None:
            if w.dims(inputs[1]) != shape:
                raise w.error(f"the weights in input 1 have shape {w.dims(inputs[1])}, wanted {shape}")
            value: ir.Value = inputs[1]
            return value
        if self.kernel is None or self.kernel.size == 0:
            raise w.unfinished("it has no weights; give kernel=, or a tensor with set_input(1, ...)")
        groups = math.prod(shape) * self.num_groups // max(self.kernel.size, 1)
        if self.kernel.size != math.prod(shape) and self._would_fit(channels, groups):
            raise w.unfinished(
                f"kernel has {self.kernel.size} weights, wanted {math.prod(shape)}: {shape} with "
                f"num_groups={self.num_groups}; it would fit num_groups={groups}"
            )
        return sized(w, self.kernel, shape, w.dtype(inputs[0]), "kernel")

    def _would_fit(self, channels: int, groups: int) -> bool:
        """Whether the kernel is right for another number of groups, which may be set later."""
        if groups < 1 or channels % groups or self.num_output_maps % groups or self.kernel is None:
            return False
        return self.kernel.size * groups == channels * self.num_output_maps * math.prod(self.kernel_size_nd)

    def bias_value(self, w: Writer, inputs: list[Any]) -> ir.Value | None:
        """The bias as a value, if there is one."""
        if len(inputs) > 2 and inputs[2] is not None:
            value: ir.Value = inputs[2]
            return value
        if self.bias is None or self.bias.size == 0:
            return None
        return sized(w, self.bias, (self.num_output_maps,), w.dtype(inputs[0]), "bias")


class ConvolutionLayer(_WeightedWindow):
    """Cross-correlation, as neural networks call convolution; weights (maps, channels / groups, *window)."""

    kind = LayerType.CONVOLUTION

    def kernel_shape(self, channels: int) -> tuple[int, ...]:
        """(output maps, input channels of a group, *window)."""
        return (self.num_output_maps, channels // self.num_groups, *self.kernel_size_nd)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Conv. Rounding up is padding of stride - 1 at the end: the last window then begins wherever it can."""
        x = inputs[0]
        check_spatial(w, x, len(self.kernel_size_nd))
        kernel, bias = self.weights_value(w, inputs), self.bias_value(w, inputs)
        pads = self.pads(w, x, self.extents)
        self.check_fits(w, x, self.extents, pads)
        if self.padding_mode is PaddingMode.EXPLICIT_ROUND_UP:
            count = len(self.extents)
            ends = [pad + stride - 1 for pad, stride in zip(pads["pads"][count:], self.stride_nd, strict=True)]
            pads = {"pads": [*pads["pads"][:count], *ends]}
        made = w.op(
            "Conv",
            x,
            kernel,
            bias,
            kernel_shape=list(self.kernel_size_nd),
            strides=list(self.stride_nd),
            dilations=list(self.dilation_nd),
            group=self.num_groups,
            **pads,
        )
        return [made]


class DeconvolutionLayer(_WeightedWindow):
    """Transposed convolution; weights (channels, maps / groups, *window).

    A negative ``post_padding`` adds to the output's end, as PyTorch's ``output_padding`` does.
    """

    kind = LayerType.DECONVOLUTION

    def kernel_shape(self, channels: int) -> tuple[int, ...]:
        """(input channels, output maps of a group, *window)."""
        return (channels, self.num_output_maps // self.num_groups, *self.kernel_size_nd)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """ConvTranspose."""
        x = inputs[0]
        check_spatial(w, x, len(self.kernel_size_nd))
        kernel, bias = self.weights_value(w, inputs), self.bias_value(w, inputs)
        begin, end = list(self.pre_padding), list(self.post_padding)
        if self.padding_mode in (PaddingMode.SAME_UPPER, PaddingMode.SAME_LOWER):
            total = [max(extent - stride, 0) for extent, stride in zip(self.extents, self.stride_nd, strict=True)]
            less, more = [each // 2 for each in total], [each - each // 2 for each in total]
            begin, end = (less, more) if self.padding_mode is PaddingMode.SAME_UPPER else (more, less)
        extra = [max(-pad, 0) for pad in end]
        end = [max(pad, 0) for pad in end]
        for axis, size in enumerate(w.dims(x)[2:]):
            if not isinstance(size, int):
                continue
            made = (size - 1) * self.stride_nd[axis] + self.extents[axis] - begin[axis] - end[axis] + extra[axis]
            if made < 1:
                raise w.unfinished(f"the output would have size {made} along spatial dimension {axis}; pad less")
        return [
            w.op(
                "ConvTranspose",
                x,
                kernel,
                bias,
                kernel_shape=list(self.kernel_size_nd),
                strides=list(self.stride_nd),
                dilations=list(self.dilation_nd),
                group=self.num_groups,
                pads=[*begin, *end],
                output_padding=extra if any(extra) else None,
            )
        ]


class FullyConnectedLayer(Layer):
    """The last three dimensions (of fewer: all but the first) as one vector, times a matrix, plus a bias.

    The output is (..., num_output_channels, 1, 1), as TensorRT's was; without the ones for inputs of two dimensions.
    """

    kind = LayerType.FULLY_CONNECTED

    num_output_channels = Setting(whole(1))
    kernel = Setting(weights)
    bias = Setting(optional(weights))

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Reshape, Gemm, Reshape."""
        x = inputs[0]
        dims = w.dims(x)
        if len(dims) < 2:
            raise w.error(f"expected at least 2 dimensions, got {dims}")
        ones = 2 if len(dims) > 2 else 0
        lead: tuple[Dim, ...] = dims[: -(ones + 1)]
        sizes = [dim for dim in dims[len(lead) :] if isinstance(dim, int)]
        if len(sizes) != len(dims) - len(lead):
            raise w.error(f"the dimensions that it flattens must be known, got {dims[len(lead) :]}")
        length = math.prod(sizes)
        if self.kernel is None:
            raise w.unfinished("it has no weights; give kernel=")
        kernel = sized(w, self.kernel, (self.num_output_channels, length), w.dtype(x), "kernel")
        bias = None
        if self.bias is not None and self.bias.size:
            bias = sized(w, self.bias, (self.num_output_channels,), w.dtype(x), "bias")
        flat = x if len(dims) == 2 else w.op("Reshape", x, w.ints([-1, length]))
        made = w.op("Gemm", flat, kernel, bias, transB=1)
        if not ones:
            return [made]
        target = w.ints([*_copied(lead), self.num_output_channels, 1, 1])
        if len(lead) > 1:
            shape = w.op("Shape", x, start=0, end=len(lead))
            target = w.op("Concat", shape, w.ints([self.num_output_channels, 1, 1]), axis=0)
        return [w.set_dims(w.op("Reshape", made, target), (*lead, self.num_output_channels, 1, 1))]


def _copied(lead: Sequence[Dim]) -> list[int]:
    """A Reshape target for the leading dims: itself where known, else whatever is left."""
    return [dim if isinstance(dim, int) else -1 for dim in lead]
