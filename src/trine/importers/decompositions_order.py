"""Order statistics and running extremes, written with TopK, Sort and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["TABLE"]

aten = torch.ops.aten
Pair = tuple[torch.Tensor, torch.Tensor]


def kthvalue(x: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Pair:
    """The k-th smallest along ``dim`` and its index. Where values are equal, PyTorch promises no particular index."""
    if x.dim() == 0:
        return x.clone(), torch.zeros((), dtype=torch.int64, device=x.device)
    values, indices = torch.topk(x, k, dim, largest=False, sorted=True)
    return _last(values, dim, keepdim), _last(indices, dim, keepdim)


def median(x: torch.Tensor, dim: int, keepdim: bool = False) -> Pair:
    """The lower of the two middle values along ``dim``; NaN where there is one."""
    if x.dim() == 0:
        return kthvalue(x, 1)
    values, indices = kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim)
    if x.is_floating_point():
        missing = torch.isnan(x)
        first = missing.to(torch.int64).argmax(dim, keepdim)
        holds = missing.any(dim, keepdim)
        values, indices = torch.where(holds, torch.nan, values), torch.where(holds, first, indices)
    return values, indices


def median_of_all(x: torch.Tensor) -> torch.Tensor:
    """``x.median()``."""
    return median(x.reshape(-1), 0)[0]


def nanmedian(x: torch.Tensor, dim: int, keepdim: bool = False) -> Pair:
    """The lower middle value of those along ``dim`` that are numbers; NaN where none is."""
    if x.dim() == 0 or not x.is_floating_point():
        return median(x, dim, keepdim)
    missing = torch.isnan(x)
    values, indices = torch.sort(torch.where(missing, torch.inf, x), dim)
    numbers = (~missing).sum(dim, keepdim=True)
    middle = ((numbers - 1) // 2).clamp(min=0)
    value = torch.where(numbers > 0, values.gather(dim, middle), torch.nan)
    index = indices.gather(dim, middle)
    return (value, index) if keepdim else (value.squeeze(dim), index.squeeze(dim))


def nanmedian_of_all(x: torch.Tensor) -> torch.Tensor:
    """``x.nanmedian()``."""
    return nanmedian(x.reshape(-1), 0)[0]


def _last(x: torch.Tensor, dim: int, keepdim: bool) -> torch.Tensor:
    x = x.narrow(dim, x.shape[dim] - 1, 1)
    return x if keepdim else x.squeeze(dim)


def _running(beats: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor, int], Any]:
    """``cummax`` or ``cummin``: each place takes the best of the 1, 2, 4, ... places up to it, in log2(n) steps.

    ``beats(a, b)`` says where ``a``, which comes earlier, wins over ``b``; of equal ones the later wins, as in PyTorch.
    """

    def running(x: torch.Tensor, dim: int) -> Any:
        if x.dim() == 0:
            return x.clone(), torch.zeros((), dtype=torch.int64, device=x.device)
        size = x.shape[dim]
        if not isinstance(size, int) or x.dtype == torch.bool:
            return NotImplemented  # the number of steps is fixed when the graph is made
        shape = [size if axis == dim % x.dim() else 1 for axis in range(x.dim())]
        values, indices = x.clone(), torch.arange(size, device=x.device).reshape(shape).expand(x.shape)
        step = 1
        while step < size:
            earlier, later = values.narrow(dim, 0, size - step), values.narrow(dim, step, size - step)
            wins = beats(earlier, later)
            if x.is_floating_point():
                wins = (wins | torch.isnan(earlier)) & ~torch.isnan(later)
            best = torch.where(wins, earlier, later)
            where = torch.where(wins, indices.narrow(dim, 0, size - step), indices.narrow(dim, step, size - step))
            values = torch.cat([values.narrow(dim, 0, step), best], dim)
            indices = torch.cat([indices.narrow(dim, 0, step), where], dim)
            step *= 2
        return values, indices

    return running


def cumprod(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
    """Running products, in log2(n) steps."""
    x = x.to(dtype or (x.dtype if x.is_floating_point() else torch.int64))
    if x.dim() == 0:
        return x.clone()
    size = x.shape[dim]
    if not isinstance(size, int):
        return NotImplemented
    step = 1
    while step < size:
        both = x.narrow(dim, 0, size - step) * x.narrow(dim, step, size - step)
        x = torch.cat([x.narrow(dim, 0, step), both], dim)
        step *= 2
    return x


TABLE: dict[Any, Callable[..., Any]] = {
    aten.kthvalue.default: kthvalue,
    aten.median.dim: median,
    aten.median.default: median_of_all,
    aten.nanmedian.dim: nanmedian,
    aten.nanmedian.default: nanmedian_of_all,
    aten.cummax.default: _running(torch.gt),
    aten.cummin.default: _running(torch.lt),
    aten.cumprod.default: cumprod,
}
