"""Linear algebra of small matrices, written out step by step: inverses, systems, Cholesky factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["LARGEST", "TABLE"]

aten = torch.ops.aten

# Each row of a matrix is a dozen operators in the graph; larger matrices would be slow, and hard to read.
LARGEST = 16


def inverse(a: torch.Tensor) -> Any:
    """The inverse of [..., n, n], from a system with the unit matrix on its right side."""
    if not _small(a):
        return NotImplemented
    unit = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return _eliminate(a, unit.expand(a.shape))


def inverse_ex(a: torch.Tensor, *, check_errors: bool = False) -> Any:
    """The inverse, and how far the factorisation came before it failed: 0, never."""
    answer = inverse(a)
    return answer if answer is NotImplemented else (answer, a.new_zeros(a.shape[:-2], dtype=torch.int32))


def solve(a: torch.Tensor, b: torch.Tensor, *, left: bool = True) -> Any:
    """``x`` of ``a @ x = b``, or of ``x @ a = b``; ``b`` may be one vector for each matrix."""
    if not _small(a):
        return NotImplemented
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and tuple(b.shape) == tuple(a.shape[:-1]))
    b = b.unsqueeze(-1) if vector else b
    x = _eliminate(a, b) if left else _eliminate(a.mT, b.mT).mT
    return x.squeeze(-1) if vector else x


def slogdet(a: torch.Tensor) -> Any:
    """Sign and logarithm of the determinant's size, from the determinant itself: small ones do not overflow."""
    if not _small(a):
        return NotImplemented
    determinant = torch.linalg.det(a)
    return determinant.sign(), determinant.abs().log()


def cholesky(a: torch.Tensor, *, upper: bool = False) -> Any:
    """The triangular ``l`` of ``l @ l.mT = a``, column by column; NaN where PyTorch finds ``a`` not positive."""
    if not _small(a):
        return NotImplemented
    size = a.shape[-1]
    columns: list[torch.Tensor] = []
    for k in range(size):
        rest = a[..., k:, k]
        if columns:
            done = torch.stack(columns, -1)[..., k:, :]
            rest = rest - (done * done[..., :1, :]).sum(-1)
        column = rest / rest[..., :1].sqrt()
        columns.append(torch.nn.functional.pad(column, (k, 0)))
    factor = torch.stack(columns, -1)
    return factor.mT if upper else factor


def solve_triangular(
    a: torch.Tensor, b: torch.Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    """``x`` of ``a @ x = b`` (or ``x @ a = b``), a row at a time; the other triangle of ``a`` is not read."""
    if not _small(a):
        return NotImplemented
    if not left:
        turned = solve_triangular(a.mT, b.mT, upper=not upper, unitriangular=unitriangular)
        return turned.mT
    size = a.shape[-1]
    rows: dict[int, torch.Tensor] = {}
    for k in reversed(range(size)) if upper else range(size):
        row = b[..., k, :]
        for other, solved in rows.items():
            row = row - a[..., k, other, None] * solved
        rows[k] = row if unitriangular else row / a[..., k, k, None]
    return torch.stack([rows[k] for k in range(size)], -2)


def _small(a: torch.Tensor) -> bool:
    size = a.shape[-1]
    return isinstance(size, int) and 0 < size <= LARGEST and a.is_floating_point()


def _eliminate(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Gauss and Jordan's elimination on [a | b], each column's largest number as the pivot."""
    size = a.shape[-1]
    leading = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
    table = torch.cat([a.expand(*leading, size, size), b.expand(*leading, *b.shape[-2:])], -1)
    numbers = torch.arange(size, device=a.device)
    for k in range(size):
        chosen = (table[..., k:, k].abs().argmax(-1, keepdim=True) + k).unsqueeze(-1)  # [..., 1, 1]
        pivot = table.gather(-2, chosen.expand(*leading, 1, table.shape[-1]))
        current = table[..., k : k + 1, :]
        table = torch.where(numbers.unsqueeze(-1) == chosen, current, table)  # the pivot's row holds row k now
        pivot = pivot / pivot[..., k : k + 1]
        table = torch.where(numbers.unsqueeze(-1) == k, pivot, table - table[..., k : k + 1] * pivot)
    return table[..., size:]


TABLE: dict[Any, Callable[..., Any]] = {
    aten.linalg_inv.default: inverse,
    aten.linalg_inv_ex.default: inverse_ex,
    aten.inverse.default: inverse,
    aten.linalg_solve.default: solve,
    aten.linalg_slogdet.default: slogdet,
    aten.slogdet.default: slogdet,
    aten.linalg_cholesky.default: cholesky,
    aten.linalg_solve_triangular.default: solve_triangular,
}
