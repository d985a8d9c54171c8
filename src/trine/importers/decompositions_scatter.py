"""Searching sorted values and scattering into places, in the forms that ONNX has no one operator for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["TABLE"]

aten = torch.ops.aten


def bucketize(
    x: torch.Tensor, boundaries: torch.Tensor, *, out_int32: bool = False, right: bool = False
) -> torch.Tensor:
    """How many ``boundaries`` lie before each value: one comparison with each. NaN comes after all of them."""
    after = boundaries > x.unsqueeze(-1) if right else boundaries >= x.unsqueeze(-1)
    return (~after).sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def searchsorted(
    sequence: torch.Tensor,
    x: torch.Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: torch.Tensor | None = None,
) -> torch.Tensor:
    """``bucketize`` with one row of boundaries for all of ``x``, or one for each of its rows."""
    if sorter is not None:
        sequence = sequence.gather(-1, sorter)
    if sequence.dim() > 1:
        sequence = sequence.unsqueeze(-2)
    return bucketize(x, sequence, out_int32=out_int32, right=right or side == "right")


def isin(x: torch.Tensor, among: torch.Tensor, *, assume_unique: bool = False, invert: bool = False) -> torch.Tensor:
    """Whether each value is one of ``among``: one comparison with each."""
    found = (x.unsqueeze(-1) == among.reshape(-1)).any(-1)
    return ~found if invert else found


def histc(x: torch.Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Any:  # noqa: A002  # PyTorch's names
    """How many values fall into each of ``bins`` equal parts of the range; PyTorch's default takes x's own range."""
    if not isinstance(x.numel(), int):
        return NotImplemented
    x = x.reshape(-1)
    low, high = (x.min(), x.max()) if min == max == 0 else (x.new_tensor(min), x.new_tensor(max))
    part = ((x - low) * (bins / (high - low))).floor()
    part = torch.where(x == high, part.new_tensor(bins - 1), part)
    inside = (x >= low) & (x <= high)
    counted = (part.unsqueeze(-1) == torch.arange(bins, device=x.device)) & inside.unsqueeze(-1)
    return counted.sum(0).to(x.dtype)


def scatter(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> Any:
    """``src`` may be larger than ``index``, where ONNX wants them of one shape; what is over is not read."""
    if _same_shape(index, src):
        return NotImplemented  # as the exporter has it
    return x.scatter(dim, index, _cut(src, index))


def scatter_add(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> Any:
    """As ``scatter``."""
    if _same_shape(index, src):
        return NotImplemented
    return x.scatter_add(dim, index, _cut(src, index))


_REDUCTIONS = {"add": "sum", "multiply": "prod"}


def scatter_with_reduction(
    x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, *, reduce: str
) -> torch.Tensor:
    """The older spelling of ``scatter_reduce``."""
    return x.scatter_reduce(dim, index, _cut(src, index), _REDUCTIONS[reduce])


def scatter_reduce(
    x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """ONNX scatters sums, products and extremes, but no mean: that is a sum over a count."""
    if reduce != "mean":
        if _same_shape(index, src):
            return NotImplemented
        return x.scatter_reduce(dim, index, _cut(src, index), reduce, include_self=include_self)
    src = _cut(src, index)
    zeros = torch.zeros_like(x)
    count = zeros.scatter_add(dim, index, torch.ones_like(src))
    total = zeros.scatter_add(dim, index, src)
    if include_self:
        count, total = count + 1, total + x
    divisor = torch.where(count > 0, count, torch.ones_like(count))
    mean = total / divisor if x.is_floating_point() else torch.div(total, divisor, rounding_mode="floor")
    return torch.where(count > 0, mean, x)


def index_reduce(
    x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """``scatter_reduce`` with one index for a whole slice."""
    shape = [-1 if axis == dim % x.dim() else 1 for axis in range(x.dim())]
    places = index.reshape(shape).expand(source.shape)
    return x.scatter_reduce(dim, places, source, reduce, include_self=include_self)


def _same_shape(a: torch.Tensor, b: torch.Tensor) -> bool:
    return all(one is two or one == two for one, two in zip(a.shape, b.shape, strict=True))


def _cut(src: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    for axis, size in enumerate(index.shape):
        src = src.narrow(axis, 0, size)
    return src


TABLE: dict[Any, Callable[..., Any]] = {
    aten.bucketize.Tensor: bucketize,
    aten.searchsorted.Tensor: searchsorted,
    aten.isin.Tensor_Tensor: isin,
    aten.histc.default: histc,
    aten.scatter.src: scatter,
    aten.scatter.reduce: scatter_with_reduction,
    aten.scatter_add.default: scatter_add,
    aten.scatter_reduce.two: scatter_reduce,
    aten.index_reduce.default: index_reduce,
}
