"""Which shapes attention may have: shared by RecogniseAttention and SpellOutAttention."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["TYPES", "Dims", "dims_of", "mask_fits", "operands_fit"]

TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
Dims = list[int | ir.SymbolicDim]


def dims_of(value: ir.Value | None) -> Dims | None:
    """[batch, heads, length, size]; None for values of other or unknown rank."""
    return None if value is None or value.shape is None or len(value.shape) != 4 else list(value.shape)


def operands_fit(query: Dims | None, key: Dims | None, value: Dims | None) -> bool:
    """Whether batch, heads, sizes and lengths are equal for certain: nothing broadcasts, no head is shared."""
    if query is None or key is None or value is None:
        return False
    return (
        _same(query[0], key[0], value[0])
        and _same(query[1], key[1], value[1])
        and _same(query[3], key[3])
        and _same(key[2], value[2])
        and isinstance(query[1], int)
        and isinstance(query[3], int)
    )


def mask_fits(mask: ir.Value | None, query: Dims, key: Dims) -> bool:
    """Whether there is no mask, or one of [batch or 1, heads or 1, queries, keys] for certain."""
    if mask is None:
        return True
    dims = dims_of(mask)
    if dims is None or mask.dtype not in TYPES:
        return False
    return (
        (dims[0] == 1 or _same(dims[0], query[0]))
        and (dims[1] == 1 or _same(dims[1], query[1]))
        and _same(dims[2], query[2])
        and _same(dims[3], key[2])
    )


def _same(*dims: int | ir.SymbolicDim) -> bool:
    first = dims[0]
    if isinstance(first, ir.SymbolicDim) and first.value is None:
        return False
    return all(isinstance(dim, int) == isinstance(first, int) and dim == first for dim in dims)
