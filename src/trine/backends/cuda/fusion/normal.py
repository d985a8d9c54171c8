"""A product normalises its sums instead of reading rows that were normalised before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import ITEM_BYTES, Buffer, Gemm, LayerNorm, Normal, RowStatistics, View
from trine.backends.cuda.lowering.views import covers_buffer

__all__ = ["fuse_normal"]

LEAST_BYTES = 8 << 20  # of what is normalised: less stays in the L2 cache until the product reads it
# Products that are shorter than this, and wider than long: on an H200, what their tiles do after the sums took longer
# than the rows' way through memory (swin_t and convnext_tiny at 128: 96 to 384 products, four times as many sums).
LEAST_PRODUCTS = 768
_LONGEST = 32768  # numbers of a row, as its statistics are computed in registers
_NARROW = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}

Array = np.ndarray[Any, Any]


def fuse_normal(program: Program) -> None:
    """Before: LayerNorm(x) -> t; Gemm(t, w, bias). After: RowStatistics(x) -> s; Gemm(x, w, bias), with s and the sums
    of w's rows as its ``normal``.

    ``LayerNorm(x) @ w.T`` is ``rstd * (x @ w.T - mean * sum(w))``, so that t is neither written nor read. The sums are
    of w as it is stored, in 16 bits, so that the mean cancels. A bias of the LayerNorm goes through w into the
    product's. Stays: a scale other than 1, which FoldNormScale moves into w, as w would be in the file twice otherwise;
    t that anything but products of whole rows reads; fp32; few rows; short products.
    """
    for index, group in program.positions():
        if not isinstance(group, LayerNorm) or not _fits(group) or program.writers(group.y.buffer) != [index]:
            continue
        readers = program.readers(group.y.buffer)
        rows = group.x.shape[0]
        made = View(Buffer(f"{group.name} statistics", "arena", "fp32", 2 * rows), (rows, 2), (2, 1))
        folded = [_folded(program.at(reader), group, made) for reader in readers]
        if not folded or None in folded:
            continue
        program.put(index, RowStatistics(name=group.name, y=made, x=group.x, epsilon=group.epsilon))
        for reader, product in zip(readers, folded, strict=True):
            program.put(reader, product)


def _fits(norm: LayerNorm) -> bool:
    x, y = norm.x, norm.y
    return (
        not norm.rms
        and norm.residual is None
        and norm.total is None
        and y.dtype in _NARROW
        and x.dtype == y.dtype
        and y.elements * ITEM_BYTES[y.dtype] >= LEAST_BYTES
        and y.shape[1] <= _LONGEST
        and y.buffer.kind == "arena"
        and covers_buffer(y)
        and y.contiguous
        and x.buffer.kind == "arena"
        and x.strides[1] == 1
        and x.strides[0] % 8 == 0  # as tensor cores' operands are fetched
        and x.offset % 8 == 0
        and (norm.scale is None or _all_ones(norm.scale))
        and (norm.bias is None or norm.bias.buffer.data is not None)
    )


def _all_ones(view: View) -> bool:
    elements = _elements(view)
    return elements is not None and bool((elements == 1).all())


def _folded(group: object, norm: LayerNorm, statistics: View) -> Gemm | None:
    """A reader of what ``norm`` makes, from its ``x``; None where it cannot be."""
    if not isinstance(group, Gemm) or group.prologue is not None or group.normal is not None or group.a != norm.y:
        return None
    product = replace(group, name=f"{norm.name} + {group.name}", a=norm.x)
    if any(view.buffer is norm.y.buffer for view in product.views()):
        return None
    weights = _elements(group.b)
    if weights is None or group.b.dtype != norm.y.dtype:
        return None
    sums_of_a_row, products = weights.shape
    if products < min(LEAST_PRODUCTS, sums_of_a_row):
        return None
    with np.errstate(over="ignore"):
        stored = weights.astype(_NARROW[group.b.dtype])
    if not np.isfinite(stored.astype(np.float32)).all():
        return None
    epilogue = group.epilogue
    shift = None if norm.bias is None else _elements(norm.bias)
    if shift is not None and shift.any():
        bias = np.zeros(len(weights)) if epilogue.bias is None else _elements(epilogue.bias)
        if bias is None:
            return None
        bias = bias + weights.astype(np.float64) @ shift.astype(np.float64)
        epilogue = replace(epilogue, bias=_vector(bias, f"{group.name} bias"))
    sums = _vector(stored.astype(np.float64).sum(axis=1), f"{group.b.buffer.name} sums")
    return replace(product, normal=Normal(statistics, sums), epilogue=epilogue)


def _elements(view: View) -> Array | None:
    """A weight's elements in the view's shape; None where they are not known."""
    data = view.buffer.data
    if view.buffer.kind != "weight" or data is None:
        return None
    strides = [stride * data.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(data.reshape(-1)[view.offset :], view.shape, strides, writeable=False)


def _vector(array: Array, name: str) -> View:
    return View(Buffer(name, "weight", "fp32", array.size, array.astype(np.float32)), (array.size,), (1,))
