"""The ``add_*`` that every version of TensorRT has had."""

# Which class shows a layer is decided when it is added:
# mypy: disable-error-code="no-any-return"
# ruff: noqa: A002  # TensorRT names its arguments input and type
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trine.compat.tensorrt import layers as kinds
from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.foundation import as_array
from trine.compat.tensorrt.more_layers import IElementWiseLayer
from trine.compat.tensorrt.properties import trine_member

if TYPE_CHECKING:
    from trine.compat.tensorrt.logger import Reporter

__all__ = ["LayerMethods"]


def ints(values: Any) -> tuple[int, ...]:
    """A shape as Python ints. Raises TypeError for what is none."""
    return tuple(int(value) for value in values)


def _third_from_last(rank: int) -> int:
    """The axis that TensorRT takes where none is set, of `rank` dimensions with an implicit batch before them."""
    return max(rank - 1 - 3, 0) + 1


class LayerMethods(Checked):
    """See ``INetworkDefinition``, which has these."""

    _net: Any
    _reporter: Reporter
    _implicit: bool
    _unwrap: Callable[[Any], Any]
    _add: Callable[[str, Callable[[], Any]], Any]

    @property
    def _hidden_axes(self) -> int:
        return int(self._implicit)

    def add_convolution_nd(
        self,
        input: Any,
        num_output_maps: int,
        kernel_shape: Any,
        kernel: Any,
        bias: Any = None,
    ) -> kinds.IConvolutionLayer:
        """A convolution; the spatial size is as long as ``kernel_shape``."""
        return self._convolution("add_convolution_nd", input, num_output_maps, kernel_shape, kernel, bias)

    def add_deconvolution_nd(
        self,
        input: Any,
        num_output_maps: int,
        kernel_shape: Any,
        kernel: Any,
        bias: Any = None,
    ) -> kinds.IDeconvolutionLayer:
        """A transposed convolution."""
        return self._convolution("add_deconvolution_nd", input, num_output_maps, kernel_shape, kernel, bias)

    def _convolution(self, method: str, tensor: Any, maps: int, shape: Any, kernel: Any, bias: Any) -> Any:
        source, size = self._unwrap(tensor), ints(shape)
        values, offsets = as_array(kernel), as_array(bias)
        return self._add(method, lambda: getattr(self._net, method)(source, int(maps), size, values, offsets))

    def add_pooling_nd(self, input: Any, type: Any, window_size: Any) -> kinds.IPoolingLayer:
        """The maximum or average of windows."""
        source, kind, window = self._unwrap(input), trine_member("PoolingType", type), ints(window_size)
        return self._add("add_pooling_nd", lambda: self._net.add_pooling_nd(source, kind, window))

    def add_activation(self, input: Any, type: Any) -> kinds.IActivationLayer:
        """A function of each element."""
        source, kind = self._unwrap(input), trine_member("ActivationType", type)
        return self._add("add_activation", lambda: self._net.add_activation(source, kind))

    def add_lrn(self, input: Any, window: int, alpha: float, beta: float, k: float) -> kinds.ILRNLayer:
        """Local response normalisation."""
        source = self._unwrap(input)
        return self._add("add_lrn", lambda: self._net.add_lrn(source, int(window), alpha, beta, k))

    def add_scale(
        self,
        input: Any,
        mode: Any,
        shift: Any = None,
        scale: Any = None,
        power: Any = None,
    ) -> kinds.IScaleLayer:
        """(x * scale + shift) ** power; channels are the first dimension after the batch."""
        source, kind = self._unwrap(input), trine_member("ScaleMode", mode)
        parts = [as_array(part) for part in (shift, scale, power)]
        return self._add("add_scale", lambda: self._net.add_scale(source, kind, *parts))

    def add_scale_nd(
        self,
        input: Any,
        mode: Any,
        shift: Any = None,
        scale: Any = None,
        power: Any = None,
        channel_axis: int = 1,
    ) -> kinds.IScaleLayer:
        """(x * scale + shift) ** power; channels are dimension ``channel_axis``."""
        source, kind = self._unwrap(input), trine_member("ScaleMode", mode)
        parts = [as_array(part) for part in (shift, scale, power)]
        axis = int(channel_axis) + self._hidden_axes
        return self._add("add_scale_nd", lambda: self._net.add_scale_nd(source, kind, *parts, axis))

    def add_softmax(self, input: Any) -> kinds.ISoftMaxLayer:
        """Softmax; along which dimension, the layer's ``axes`` say."""
        source = self._unwrap(input)

        def add() -> Any:
            layer = self._net.add_softmax(source)
            if self._hidden_axes:
                layer.axes = 1 << _third_from_last(len(source.shape))
            return layer

        return self._add("add_softmax", add)

    def add_concatenation(self, inputs: Sequence[Any]) -> kinds.IConcatenationLayer:
        """Inputs one after the other."""
        sources = [self._unwrap(tensor) for tensor in inputs]

        def add() -> Any:
            layer = self._net.add_concatenation(sources)
            if self._hidden_axes:
                layer.axis = _third_from_last(len(sources[0].shape))
            return layer

        return self._add("add_concatenation", add)

    def add_elementwise(self, input1: Any, input2: Any, op: Any) -> IElementWiseLayer:
        """A function of each pair of elements."""
        first, second, kind = self._unwrap(input1), self._unwrap(input2), trine_member("ElementWiseOperation", op)
        return self._add("add_elementwise", lambda: self._net.add_elementwise(first, second, kind))

    def add_unary(self, input: Any, op: Any) -> kinds.IUnaryLayer:
        """A function of each element."""
        source, kind = self._unwrap(input), trine_member("UnaryOperation", op)
        return self._add("add_unary", lambda: self._net.add_unary(source, kind))

    def add_padding_nd(self, input: Any, pre_padding: Any, post_padding: Any) -> kinds.IPaddingLayer:
        """Zeros around the last dimensions."""
        source, before, after = self._unwrap(input), ints(pre_padding), ints(post_padding)
        return self._add("add_padding_nd", lambda: self._net.add_padding_nd(source, before, after))

    def add_shuffle(self, input: Any) -> kinds.IShuffleLayer:
        """Transpositions and a reshape."""
        source = self._unwrap(input)
        return self._add("add_shuffle", lambda: self._net.add_shuffle(source))

    def add_slice(self, input: Any, start: Any, shape: Any, stride: Any) -> kinds.ISliceLayer:
        """Part of a tensor."""
        source, hidden = self._unwrap(input), self._hidden_axes
        first, size, step = ints(start), ints(shape), ints(stride)

        def add() -> Any:
            if not hidden:
                return self._net.add_slice(source, first, size, step)
            layer = self._net.add_slice(source, (0, *first), (1, *size), (1, *step))
            layer.axes = tuple(range(1, len(size) + 1))
            layer.start, layer.shape, layer.stride = first, size, step
            return layer

        return self._add("add_slice", add)

    def add_reduce(self, input: Any, op: Any, axes: int, keep_dims: bool) -> kinds.IReduceLayer:
        """A sum, product, maximum, minimum or average along the dimensions whose bits ``axes`` has."""
        source, kind, mask = self._unwrap(input), trine_member("ReduceOperation", op), int(axes) << self._hidden_axes
        return self._add("add_reduce", lambda: self._net.add_reduce(source, kind, mask, bool(keep_dims)))

    def add_topk(
        self,
        input: Any,
        op: Any,
        k: int,
        axes: int,
        indices_type: Any = None,
    ) -> kinds.ITopKLayer:
        """The k largest or smallest along the dimension whose bit ``axes`` has."""
        source, kind, mask = self._unwrap(input), trine_member("TopKOperation", op), int(axes) << self._hidden_axes

        def add() -> Any:
            layer = self._net.add_topk(source, kind, int(k), mask)
            if indices_type is not None:
                from trine.compat.tensorrt.foundation import to_trine

                layer.indices_type = to_trine(indices_type)
            return layer

        return self._add("add_topk", add)

    def add_gather(self, input: Any, indices: Any, axis: int) -> kinds.IGatherLayer:
        """Elements at indices along a dimension."""
        source, where = self._unwrap(input), self._unwrap(indices)
        along = int(axis) + (self._hidden_axes if int(axis) >= 0 else 0)
        return self._add("add_gather", lambda: self._net.add_gather(source, where, along))

    def add_matrix_multiply(self, input0: Any, op0: Any, input1: Any, op1: Any) -> kinds.IMatrixMultiplyLayer:
        """A product of matrices."""
        first, second = self._unwrap(input0), self._unwrap(input1)
        kind0, kind1 = trine_member("MatrixOperation", op0), trine_member("MatrixOperation", op1)
        return self._add("add_matrix_multiply", lambda: self._net.add_matrix_multiply(first, kind0, second, kind1))

    def add_constant(self, shape: Any, weights: Any) -> kinds.IConstantLayer:
        """Values known now. With an implicit batch they are the same for every row."""
        values = as_array(weights)
        size = (1,) * self._hidden_axes + ints(shape)
        if values is None:
            values = np.zeros(0, np.float32)
        return self._add("add_constant", lambda: self._net.add_constant(size, values))

    def add_identity(self, input: Any) -> kinds.IIdentityLayer:
        """A copy."""
        source = self._unwrap(input)
        return self._add("add_identity", lambda: self._net.add_identity(source))

    def add_parametric_relu(self, input: Any, slopes: Any) -> kinds.IParametricReLULayer:
        """x where it is positive, slope * x elsewhere."""
        source, factors = self._unwrap(input), self._unwrap(slopes)
        return self._add("add_parametric_relu", lambda: self._net.add_parametric_relu(source, factors))

    def add_resize(self, input: Any) -> kinds.IResizeLayer:
        """A picture of another size; the layer's ``shape`` or ``scales`` say which."""
        source = self._unwrap(input)
        return self._add("add_resize", lambda: self._net.add_resize(source))

    def add_shape(self, input: Any) -> kinds.IShapeLayer:
        """A tensor's shape."""
        source = self._unwrap(input)
        return self._add("add_shape", lambda: self._net.add_shape(source))

    def add_select(self, condition: Any, then_input: Any, else_input: Any) -> kinds.ISelectLayer:
        """Elements of one tensor or of another."""
        which, then, other = self._unwrap(condition), self._unwrap(then_input), self._unwrap(else_input)
        return self._add("add_select", lambda: self._net.add_select(which, then, other))
