"""Small pieces of HTML, and numbers as people read them. Every text from outside goes through ``text``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["count", "exponent", "family", "milliseconds", "shape_text", "size", "table", "text"]

_FAMILIES = {
    "convolution": "Conv ConvTranspose ConvInteger QLinearConv DeformConv FusedConv",
    "matrix": "MatMul Gemm FusedMatMul MatMulInteger QLinearMatMul Einsum Attention MultiHeadAttention "
    "GroupQueryAttention FusedGemm RNN GRU LSTM",
    "normalisation": "BatchNormalization LayerNormalization InstanceNormalization GroupNormalization "
    "RMSNormalization LRN SimplifiedLayerNormalization SkipLayerNormalization LpNormalization "
    "MeanVarianceNormalization",
    "activation": "Relu LeakyRelu PRelu Clip Sigmoid HardSigmoid HardSwish Swish Gelu FastGelu QuickGelu Elu "
    "Selu Celu Softmax LogSoftmax Softplus Softsign Tanh Mish Erf ThresholdedRelu Hardmax BiasGelu",
    "pooling": "MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool ReduceMean ReduceSum "
    "ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSumExp ArgMax ArgMin TopK MaxRoiPool RoiAlign CumSum",
    "arithmetic": "Add Sub Mul Div Pow Sqrt Exp Log Neg Abs Reciprocal Min Max Sum Mean Where Mod Floor Ceil Round "
    "Sign Equal Less Greater LessOrEqual GreaterOrEqual And Or Not Xor Sin Cos",
}
_FAMILY_OF = {op: name for name, ops in _FAMILIES.items() for op in ops.split()}


def family(op: str) -> str:
    """The kind of work an operator does; "data" for what only moves or shapes."""
    return _FAMILY_OF.get(op.rpartition(".")[2], "data")


def text(value: Any) -> str:
    """``value`` as HTML text, safe in attributes too."""
    return escape(str(value), quote=True)


def size(count_bytes: float) -> str:
    """Bytes in the unit that fits: "1.4 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count_bytes < 1024 or unit == "GiB":
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    raise AssertionError("unreachable")


def count(number: float) -> str:
    """A count, short: "25.6 M"."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            divisor = 1e3 if unit == "k" else limit
            return f"{number / divisor:.3g} {unit}"
    return f"{number:.0f}"


def milliseconds(value: float) -> str:
    """A latency in three digits: "0.0371 ms", "12.3 ms", "1405 ms"."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def exponent(value: float | str | None) -> str:
    """A small error, "3.1e-07"; the evidence holds infinities as text."""
    if value is None:
        return "\N{EN DASH}"
    number = float(value)
    return "0" if number == 0 else f"{number:.1e}" if math.isfinite(number) else str(number)


def shape_text(shape: Sequence[int | str] | None) -> str:
    """``1×3×224×224``; "scalar" for rank 0, "" when not known."""
    if shape is None:
        return ""
    return "\N{MULTIPLICATION SIGN}".join(str(dim) for dim in shape) or "scalar"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; ``numeric`` columns are right-aligned."""
    marks = [' class="n"' if index in numeric else "" for index in range(len(headings))]
    head = "".join(f"<th{mark}>{heading}</th>" for mark, heading in zip(marks, headings, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{mark}>{cell}</td>" for mark, cell in zip(marks, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
