"""Scaled or unscaled dot-product attention as one layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.network.layer import Layer
from trine.network.matrices import transposed
from trine.network.operations import AttentionNormalizationOp, CausalMaskKind, LayerType
from trine.network.settings import Setting, choice
from trine.network.tensor import Tensor
from trine.network.writer import Writer

__all__ = ["AttentionLayer"]


class AttentionLayer(Layer):
    """softmax(query x key^T + mask) x value, each (batch, heads, tokens, head size).

    There is no factor of 1 / sqrt(head size): as in TensorRT, scale the query first. Keys and values may have fewer
    heads, each then serving several of the query's. The mask, input 3, is added, or where it is bool says what may be
    seen; it broadcasts to (batch, heads, query tokens, key tokens).
    """

    kind = LayerType.ATTENTION_OUTPUT
    max_inputs: ClassVar[int] = 4

    norm_op = Setting(choice(AttentionNormalizationOp), AttentionNormalizationOp.SOFTMAX)
    causal_kind = Setting(choice(CausalMaskKind), CausalMaskKind.NONE)

    @property
    def causal(self) -> bool:
        """Whether a query sees only the keys up to its own place. Setting it to True chooses UPPER_LEFT."""
        return self.causal_kind is not CausalMaskKind.NONE

    @causal.setter
    def causal(self, causal: bool) -> None:
        self.causal_kind = CausalMaskKind.UPPER_LEFT if causal else CausalMaskKind.NONE

    @property
    def mask(self) -> Tensor | None:
        """Input 3."""
        return self.get_input(3) if self.num_inputs > 3 else None

    @mask.setter
    def mask(self, mask: Tensor | None) -> None:
        self.set_input(3, mask)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """MatMul, Add, Softmax, MatMul."""
        query, key, value = inputs[:3]
        mask = inputs[3] if len(inputs) > 3 else None
        for label, each in (("query", query), ("key", key), ("value", value)):
            if w.rank(each) != 4:
                raise w.error(f"the {label} is (batch, heads, tokens, head size), got {w.dims(each)}")
        heads, own = w.dims(query)[1], w.dims(key)[1]
        if heads != own:
            if not isinstance(heads, int) or not isinstance(own, int) or heads % own:
                raise w.error(f"the query's heads must be a multiple of the key's, got {heads} and {own}")
            key, value = (self._repeated(w, each, heads // own) for each in (key, value))
        scores = w.op("MatMul", query, transposed(w, key))
        if self.causal:
            scores = w.op("Where", self._seen(w, query, key), scores, w.scalar(-math.inf, scores))
        if mask is not None and w.dtype(mask) is DataType.BOOL:
            scores = w.op("Where", mask, scores, w.scalar(-math.inf, scores))
        elif mask is not None:
            scores = w.op("Add", scores, mask)
        if self.norm_op is AttentionNormalizationOp.SOFTMAX:
            scores = w.op("Softmax", scores, axis=-1)
        elif self.causal or (mask is not None and w.dtype(mask) is DataType.BOOL):
            raise w.unfinished("without a norm_op, a bool or causal mask would hide nothing: -infinity would stay")
        made = w.op("MatMul", scores, value)
        return [w.set_dims(made, (*w.dims(query)[:3], w.dims(value)[3]))]

    def _repeated(self, w: Writer, x: ir.Value, times: int) -> ir.Value:
        """Each head ``times`` times, one copy behind the other."""
        batch, heads, tokens, size = w.dims(x)
        assert isinstance(heads, int)
        index = w.constant(np.repeat(np.arange(heads, dtype=np.int64), times), "heads")
        return w.set_dims(w.op("Gather", x, index, axis=1), (batch, heads * times, tokens, size))

    def _seen(self, w: Writer, query: ir.Value, key: ir.Value) -> ir.Value:
        """Which keys (columns) each query (row) may see."""
        zero, one = w.constant(np.int64(0), "zero"), w.constant(np.int64(1), "one")
        rows, columns = (w.op("Squeeze", w.op("Shape", each, start=2, end=3), w.ints([0])) for each in (query, key))
        row = w.op("Unsqueeze", w.op("Range", zero, rows, one), w.ints([1]))
        if self.causal_kind is CausalMaskKind.LOWER_RIGHT:
            row = w.op("Add", row, w.op("Sub", columns, rows))
        return w.op("LessOrEqual", w.op("Range", zero, columns, one), row)
