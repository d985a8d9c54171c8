"""The ``add_*`` methods of layers that make, pick and arrange elements, and of loops and conditionals."""

# ruff: noqa: A002  # "input" is TensorRT's name for it

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network.boxes import NMSLayer
from trine.network.computing import LayerMaker
from trine.network.conditionals import IfConditional
from trine.network.filling import ConstantLayer, FillLayer, NodeLayer
from trine.network.loops import Loop
from trine.network.operations import FillOperation, GatherMode, ScatterMode, TopKOperation
from trine.network.resampling import GridSampleLayer, ResizeLayer
from trine.network.selection import (
    GatherLayer,
    NonZeroLayer,
    OneHotLayer,
    ReverseSequenceLayer,
    ScatterLayer,
    TopKLayer,
)
from trine.network.shape_layers import (
    ConcatenationLayer,
    PaddingLayer,
    ShapeLayer,
    ShuffleLayer,
    SqueezeLayer,
    UnsqueezeLayer,
)
from trine.network.slicing import SliceLayer
from trine.network.tensor import Tensor

__all__ = ["ArrangingLayers"]

S = TypeVar("S", Loop, IfConditional)


class ArrangingLayers(LayerMaker):
    """Constants, shapes, indices, boxes, sampling, control flow, and any ONNX operator."""

    def add_constant(self, shape: Any = None, weights: Any = None, *, name: str | None = None) -> ConstantLayer:
        """Numbers as a tensor: ``add_constant(shape, weights)``, or ``add_constant(array)`` in the array's shape.

        An array is NumPy's or PyTorch's, or numbers in lists; a float becomes float32.
        """
        if weights is None:
            return self._make(ConstantLayer, [], weights=shape, name=name)
        count = weights.numel() if hasattr(weights, "numel") else np.size(weights)
        wanted = int(np.prod(tuple(shape), dtype=np.int64)) if isinstance(shape, Sequence) else count
        if count not in (0, wanted):  # 0: the weights are set later
            raise ConfigError(f"{name or 'add_constant'}: {count} weights do not fill the shape {tuple(shape)}")
        return self._make(ConstantLayer, [], weights=weights, shape=shape, name=name)

    def add_fill(
        self, shape: Any, op: FillOperation | str, output_type: Any = DataType.FLOAT32, *, name: str | None = None
    ) -> FillLayer:
        """A ramp, or random numbers; set ``alpha`` and ``beta``. Without a shape, ``set_input(0, tensor)`` gives it."""
        return self._make(FillLayer, [], shape=shape, operation=op, to_type=output_type, name=name)

    def add_shuffle(self, input: Tensor, *, name: str | None = None) -> ShuffleLayer:
        """Transpose, reshape, transpose: set ``first_transpose``, ``reshape_dims``, ``second_transpose``."""
        return self._make(ShuffleLayer, [input], name=name)

    def add_slice(
        self, input: Tensor, start: Sequence[int], shape: Sequence[int], stride: Sequence[int],
        *, name: str | None = None,
    ) -> SliceLayer:  # fmt: skip
        """``shape`` elements from ``start`` on, ``stride`` apart; one number for each dimension of the input."""
        return self._make(SliceLayer, [input], start=start, shape=shape, stride=stride, name=name)

    def add_concatenation(self, inputs: Sequence[Tensor], *, name: str | None = None) -> ConcatenationLayer:
        """Tensors one behind the other; set ``axis`` unless it is the third from last."""
        return self._make(ConcatenationLayer, list(inputs), name=name)

    def add_padding_nd(
        self, input: Tensor, pre_padding: Sequence[int], post_padding: Sequence[int], *, name: str | None = None
    ) -> PaddingLayer:
        """Zeros before and behind the last dimensions; negative numbers cut."""
        return self._make(PaddingLayer, [input], pre_padding_nd=pre_padding, post_padding_nd=post_padding, name=name)

    def add_shape(self, input: Tensor, *, name: str | None = None) -> ShapeLayer:
        """The dims of ``input`` as a tensor of int64."""
        return self._make(ShapeLayer, [input], name=name)

    def add_squeeze(
        self, input: Tensor, axes: Tensor | int | Sequence[int], *, name: str | None = None
    ) -> SqueezeLayer:
        """Without the dimensions ``axes``, which are 1: numbers, or a constant tensor."""
        if isinstance(axes, Tensor):
            return self._make(SqueezeLayer, [input, axes], name=name)
        return self._make(SqueezeLayer, [input], axes=axes, name=name)

    def add_unsqueeze(
        self, input: Tensor, axes: Tensor | int | Sequence[int], *, name: str | None = None
    ) -> UnsqueezeLayer:
        """With new dimensions of 1, the output's ``axes``: numbers, or a constant tensor."""
        if isinstance(axes, Tensor):
            return self._make(UnsqueezeLayer, [input, axes], name=name)
        return self._make(UnsqueezeLayer, [input], axes=axes, name=name)

    def add_gather(self, input: Tensor, indices: Tensor, axis: int, *, name: str | None = None) -> GatherLayer:
        """Slices of ``input`` along ``axis`` at ``indices``."""
        return self._make(GatherLayer, [input, indices], axis=axis, name=name)

    def add_gather_v2(
        self, input: Tensor, indices: Tensor, mode: GatherMode | str, *, name: str | None = None
    ) -> GatherLayer:
        """Elements or slices of ``input`` at ``indices``; set ``axis`` or ``num_elementwise_dims``."""
        return self._make(GatherLayer, [input, indices], mode=mode, name=name)

    def add_scatter(
        self, data: Tensor, indices: Tensor, updates: Tensor, mode: ScatterMode | str, *, name: str | None = None
    ) -> ScatterLayer:
        """``data`` with ``updates`` at ``indices``; set ``axis`` for ELEMENT."""
        return self._make(ScatterLayer, [data, indices, updates], mode=mode, name=name)

    def add_topk(
        self, input: Tensor, op: TopKOperation | str, k: int, axes: int | Sequence[int],
        indices_type: Any = DataType.INT32, *, name: str | None = None,
    ) -> TopKLayer:  # fmt: skip
        """The ``k`` largest or smallest elements along one axis, a bit mask; outputs are values and indices."""
        return self._make(TopKLayer, [input], op=op, k=k, axes=axes, indices_type=indices_type, outputs=2, name=name)

    def add_non_zero(
        self, input: Tensor, indices_type: Any = DataType.INT32, *, name: str | None = None
    ) -> NonZeroLayer:
        """The indices of the elements that are not zero, one column for each."""
        return self._make(NonZeroLayer, [input], indices_type=indices_type, name=name)

    def add_one_hot(
        self, indices: Tensor, values: Tensor, depth: Tensor, axis: int, *, name: str | None = None
    ) -> OneHotLayer:
        """A vector of length ``depth`` for each index; ``values`` are off and on."""
        return self._make(OneHotLayer, [indices, values, depth], axis=axis, name=name)

    def add_reverse_sequence(
        self, input: Tensor, sequence_lens: Tensor, *, name: str | None = None
    ) -> ReverseSequenceLayer:
        """The first elements of each sequence reversed; set ``batch_axis`` and ``sequence_axis`` unless 1 and 0."""
        return self._make(ReverseSequenceLayer, [input, sequence_lens], name=name)

    def add_nms(
        self, boxes: Tensor, scores: Tensor, max_output_boxes_per_class: Tensor, indices_type: Any = DataType.INT32,
        *, name: str | None = None,
    ) -> NMSLayer:  # fmt: skip
        """Non-maximum suppression; thresholds come as inputs 3 (overlap) and 4 (score)."""
        inputs = [boxes, scores, max_output_boxes_per_class]
        return self._make(NMSLayer, inputs, indices_type=indices_type, outputs=2, name=name)

    def add_resize(self, input: Tensor, *, name: str | None = None) -> ResizeLayer:
        """Another size: set ``shape`` or ``scales``, and ``resize_mode``."""
        return self._make(ResizeLayer, [input], name=name)

    def add_grid_sample(self, input: Tensor, grid: Tensor, *, name: str | None = None) -> GridSampleLayer:
        """``input`` at the places that ``grid`` names."""
        return self._make(GridSampleLayer, [input, grid], name=name)

    def add_node(
        self, op_type: str, inputs: Sequence[Tensor | None], attributes: Mapping[str, Any] | None = None,
        *, outputs: int = 1, domain: str = "", name: str | None = None,
    ) -> NodeLayer:  # fmt: skip
        """Any ONNX operator. ``None`` leaves out an optional input; attributes are plain Python values."""
        return self._make(
            NodeLayer, inputs, op_type=op_type, attributes=dict(attributes or {}), outputs=outputs, domain=domain,
            name=name,
        )  # fmt: skip

    def add_loop(self) -> Loop:
        """A loop; its methods add what goes in, what comes out, and what ends it."""
        return self._open(Loop)

    def add_if_conditional(self) -> IfConditional:
        """A conditional; its methods set the condition and add what goes in and comes out."""
        return self._open(IfConditional)

    def _open(self, kind: type[S]) -> S:
        raise NotImplementedError
