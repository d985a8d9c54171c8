"""The ``add_*`` that came with TensorRT 8, 10 and 11."""

# Which class shows a layer is decided when it is added:
# mypy: disable-error-code="no-any-return"
# ruff: noqa: A002  # TensorRT names its arguments input and type
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import layers as kinds
from trine.compat.tensorrt import more_layers as more
from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.foundation import to_trine
from trine.compat.tensorrt.network_layers import ints
from trine.compat.tensorrt.properties import trine_member

if TYPE_CHECKING:
    from trine.compat.tensorrt.flow import IAttention, IIfConditional, ILoop
    from trine.compat.tensorrt.logger import Reporter

__all__ = ["NewerLayerMethods"]


class NewerLayerMethods(Checked):
    """See ``INetworkDefinition``, which has these."""

    _net: Any
    _refuse: Callable[[str, str], None]
    _reporter: Reporter
    _implicit: bool
    _unwrap: Callable[[Any], Any]
    _add: Callable[[str, Callable[[], Any]], Any]
    _attempt: Callable[[str, Callable[[], Any]], Any]

    def add_gather_v2(self, input: Any, indices: Any, mode: Any) -> kinds.IGatherLayer:
        """Elements at indices, which ``mode`` says how to read."""
        source, where, kind = self._unwrap(input), self._unwrap(indices), trine_member("GatherMode", mode)
        return self._add("add_gather_v2", lambda: self._net.add_gather_v2(source, where, kind))

    def add_scatter(self, data: Any, indices: Any, updates: Any, mode: Any) -> kinds.IScatterLayer:
        """A tensor with elements replaced."""
        source, where, values = self._unwrap(data), self._unwrap(indices), self._unwrap(updates)
        kind = trine_member("ScatterMode", mode)
        return self._add("add_scatter", lambda: self._net.add_scatter(source, where, values, kind))

    def add_einsum(self, inputs: Sequence[Any], equation: str) -> more.IEinsumLayer:
        """A sum of products after Einstein's convention."""
        sources = [self._unwrap(tensor) for tensor in inputs]
        return self._add("add_einsum", lambda: self._net.add_einsum(sources, str(equation)))

    def add_cast(self, input: Any, to_type: Any) -> more.ICastLayer:
        """Another element type."""
        source, dtype = self._unwrap(input), to_trine(to_type)
        return self._add("add_cast", lambda: self._net.add_cast(source, dtype))

    def add_fill(self, shape: Any, op: Any, output_type: Any = None) -> more.IFillLayer:
        """A tensor of numbers in a row, or of random ones."""
        size, kind = ints(shape), trine_member("FillOperation", op)
        more_args = () if output_type is None else (to_trine(output_type),)
        return self._add("add_fill", lambda: self._net.add_fill(size, kind, *more_args))

    def add_quantize(self, input: Any, scale: Any, output_type: Any = None) -> more.IQuantizeLayer:
        """To few bits, by a scale."""
        return self._quantize("add_quantize", input, scale, output_type)

    def add_dequantize(self, input: Any, scale: Any, output_type: Any = None) -> more.IDequantizeLayer:
        """Back from few bits, by a scale."""
        return self._quantize("add_dequantize", input, scale, output_type)

    def _quantize(self, method: str, tensor: Any, scale: Any, output_type: Any) -> Any:
        source, factors = self._unwrap(tensor), self._unwrap(scale)
        more_args = () if output_type is None else (to_trine(output_type),)
        return self._add(method, lambda: getattr(self._net, method)(source, factors, *more_args))

    def add_dynamic_quantize(
        self,
        input: Any,
        axis: int,
        block_size: int,
        output_type: Any,
        scale_type: Any,
    ) -> more.IDynamicQuantizeLayer:
        """To few bits, by scales computed from the values."""
        source, to_type, scales = self._unwrap(input), to_trine(output_type), to_trine(scale_type)
        return self._add(
            "add_dynamic_quantize",
            lambda: self._net.add_dynamic_quantize(source, int(axis), int(block_size), to_type, scales),
        )

    def add_dynamic_quantize_v2(
        self,
        input: Any,
        block_shape: Any,
        output_type: Any,
        scale_type: Any,
    ) -> more.IDynamicQuantizeLayer | None:
        """To few bits, by scales of blocks along one dimension: ``block_shape`` is 1 everywhere else."""
        shape = ints(block_shape)
        along = [axis for axis, size in enumerate(shape) if size != 1]
        if len(along) != 1:
            self._refuse("add_dynamic_quantize_v2", f"blocks along one dimension only; got block_shape {shape}")
            return None
        return self.add_dynamic_quantize(input, along[0], shape[along[0]], output_type, scale_type)

    def add_one_hot(self, indices: Any, values: Any, depth: Any, axis: int) -> more.IOneHotLayer:
        """One value at an index, another elsewhere."""
        where, pair, size = self._unwrap(indices), self._unwrap(values), self._unwrap(depth)
        return self._add("add_one_hot", lambda: self._net.add_one_hot(where, pair, size, int(axis)))

    def add_non_zero(self, input: Any, indices_type: Any = None) -> more.INonZeroLayer:
        """Where a tensor is not zero."""
        source = self._unwrap(input)
        return self._indexed("add_non_zero", lambda: self._net.add_non_zero(source), indices_type)

    def add_nms(
        self, boxes: Any, scores: Any, max_output_boxes_per_class: Any, indices_type: Any = None
    ) -> more.INMSLayer:
        """Of boxes that overlap, the best."""
        corners, values, most = self._unwrap(boxes), self._unwrap(scores), self._unwrap(max_output_boxes_per_class)
        return self._indexed("add_nms", lambda: self._net.add_nms(corners, values, most), indices_type)

    def _indexed(self, method: str, make: Callable[[], Any], indices_type: Any) -> Any:
        def add() -> Any:
            layer = make()
            if indices_type is not None:
                layer.indices_type = to_trine(indices_type)
            return layer

        return self._add(method, add)

    def add_reverse_sequence(self, input: Any, sequence_lens: Any) -> more.IReverseSequenceLayer:
        """Sequences of several lengths, backwards."""
        source, lengths = self._unwrap(input), self._unwrap(sequence_lens)
        return self._add("add_reverse_sequence", lambda: self._net.add_reverse_sequence(source, lengths))

    def add_normalization(
        self,
        input: Any,
        scale: Any,
        bias: Any,
        axesMask: int,  # noqa: N803  # TensorRT's spelling
    ) -> more.INormalizationLayer:
        """Layer, group or instance normalisation."""
        return self._normalization("add_normalization", input, scale, bias, axesMask)

    def add_normalization_v2(
        self,
        input: Any,
        scale: Any,
        bias: Any,
        axesMask: int,  # noqa: N803  # TensorRT's spelling
    ) -> more.INormalizationLayer:
        """Layer, group or instance normalisation, with one scale and bias for each channel."""
        return self._normalization("add_normalization_v2", input, scale, bias, axesMask)

    def _normalization(self, method: str, tensor: Any, scale: Any, bias: Any, mask: int) -> Any:
        source, factors, offsets = self._unwrap(tensor), self._unwrap(scale), self._unwrap(bias)
        bits = int(mask) << int(self._implicit)
        return self._add(method, lambda: getattr(self._net, method)(source, factors, offsets, bits))

    def add_cumulative(
        self,
        input: Any,
        axis: Any,
        op: Any,
        exclusive: bool,
        reverse: bool,
    ) -> more.ICumulativeLayer:
        """Running sums along the dimension that the tensor ``axis`` holds."""
        source, along, kind = self._unwrap(input), self._unwrap(axis), trine_member("CumulativeOperation", op)
        return self._add(
            "add_cumulative", lambda: self._net.add_cumulative(source, along, kind, bool(exclusive), bool(reverse))
        )

    def add_grid_sample(self, input: Any, grid: Any) -> more.IGridSampleLayer:
        """A picture at points of a grid."""
        source, points = self._unwrap(input), self._unwrap(grid)
        return self._add("add_grid_sample", lambda: self._net.add_grid_sample(source, points))

    def add_ragged_softmax(self, input: Any, bounds: Any) -> more.IRaggedSoftMaxLayer:
        """Softmax of sequences of several lengths."""
        source, ends = self._unwrap(input), self._unwrap(bounds)
        return self._add("add_ragged_softmax", lambda: self._net.add_ragged_softmax(source, ends))

    def add_squeeze(self, input: Any, axes: Any) -> more.ISqueezeLayer:
        """Without the dimensions that the tensor ``axes`` holds."""
        source, which = self._unwrap(input), self._unwrap(axes)
        return self._add("add_squeeze", lambda: self._net.add_squeeze(source, which))

    def add_unsqueeze(self, input: Any, axes: Any) -> more.IUnsqueezeLayer:
        """With dimensions of size 1 where the tensor ``axes`` says."""
        source, which = self._unwrap(input), self._unwrap(axes)
        return self._add("add_unsqueeze", lambda: self._net.add_unsqueeze(source, which))

    def add_attention(self, query: Any, key: Any, value: Any, norm_op: Any, causal: Any) -> IAttention | None:
        """Scaled dot-product attention; the query is not scaled, as in TensorRT."""
        from trine.compat.tensorrt.flow import IAttention

        sources = [self._unwrap(tensor) for tensor in (query, key, value)]
        kind = trine_member("AttentionNormalizationOp", norm_op)
        layer = self._attempt(
            "INetworkDefinition::add_attention", lambda: self._net.add_attention(*sources, kind, bool(causal))
        )
        return None if layer is None else IAttention._of(self, layer)  # type: ignore[arg-type]

    def add_attention_v2(self, query: Any, key: Any, value: Any, norm_op: Any, causal_kind: Any) -> IAttention | None:
        """Scaled dot-product attention; `causal_kind` says from which corner a query sees keys."""
        from trine.compat.tensorrt.flow import IAttention

        sources = [self._unwrap(tensor) for tensor in (query, key, value)]
        kind, corner = trine_member("AttentionNormalizationOp", norm_op), trine_member("CausalMaskKind", causal_kind)
        layer = self._attempt(
            "INetworkDefinition::add_attention_v2", lambda: self._net.add_attention_v2(*sources, kind, corner)
        )
        return None if layer is None else IAttention._of(self, layer)  # type: ignore[arg-type]

    def add_loop(self) -> ILoop | None:
        """A loop, to be filled by its own methods."""
        from trine.compat.tensorrt.flow import ILoop

        made = self._attempt("INetworkDefinition::add_loop", lambda: self._net.add_loop())
        return None if made is None else ILoop._of(self, made)  # type: ignore[arg-type]

    def add_if_conditional(self) -> IIfConditional | None:
        """A conditional, to be filled by its own methods."""
        from trine.compat.tensorrt.flow import IIfConditional

        made = self._attempt("INetworkDefinition::add_if_conditional", lambda: self._net.add_if_conditional())
        return None if made is None else IIfConditional._of(self, made)  # type: ignore[arg-type]
