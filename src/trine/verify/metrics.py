"""How far one array is from another, in numbers that people compare models by.

Everything is computed in float64, in chunks, so that measuring needs little memory beside the arrays
themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.verify.tolerances import FLUSHED_TO_ZERO, TIE

__all__ = ["Metrics", "measure"]

CHUNK_ELEMENTS = 1 << 18  # 2 MiB of float64: stays in a CPU's cache through the handful of passes over it

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Metrics:
    """One output's distance from the source's.

    Floating point: errors are over the positions where both are finite; positions where exactly one is NaN
    or Inf, or where infinities differ in sign, are counted in ``nonfinite_mismatches``. NaN at the same
    place in both is agreement. Integer, bool and string outputs: ``differing_elements`` counts unequal
    elements and ``relative_error`` is their fraction (an index or a class that is off by one is as wrong as
    one that is off by a hundred); the absolute errors are those of the numbers, and 0 for strings.
    """

    elements: int
    max_abs_error: float
    mean_abs_error: float
    relative_error: float  # max|got - want| / max|want|, 0/0 = 0; integers: the differing fraction
    relative_l2: float  # ||got - want|| / ||want||, 0/0 = 0
    cosine_similarity: float  # 1 when both are all zero
    top1_agreement: float | None  # None where it has no meaning
    nonfinite_mismatches: int
    differing_elements: int  # bitwise-unequal values; for integers this is the error


def measure(got: Array, want: Array) -> Metrics:
    """Compare ``got`` with ``want``, of one shape, any dtypes.

    Raises ValueError when the shapes differ: the caller reports that better than a metric can.
    """
    if got.shape != want.shape:
        raise ValueError(f"expected shape {want.shape}, got {got.shape}")
    if DataType.from_numpy(want.dtype) is DataType.STRING:
        differing = int(np.count_nonzero(got.astype(str) != want.astype(str)))
        fraction = differing / want.size if want.size else 0.0
        return Metrics(want.size, 0.0, 0.0, fraction, fraction, 1.0 - fraction, None, 0, differing)
    sums = _Sums()
    for got_chunk, want_chunk in _chunks(got, want):
        sums.add(got_chunk, want_chunk)
    floating = _is_floating(want.dtype)
    differing_share = sums.differing / want.size if want.size else 0.0
    return Metrics(
        elements=want.size,
        max_abs_error=sums.max_error,
        mean_abs_error=sums.error / sums.finite if sums.finite else 0.0,
        relative_error=_ratio(sums.max_error, sums.max_want) if floating else differing_share,
        relative_l2=_ratio(math.sqrt(sums.error_squared), math.sqrt(sums.want_squared)),
        cosine_similarity=_cosine(sums),
        top1_agreement=_top1(got, want) if floating else None,
        nonfinite_mismatches=sums.mismatches,
        differing_elements=sums.differing,
    )


class _Sums:
    """Running sums over chunks; each ``add`` takes two 1-D arrays of one length."""

    def __init__(self) -> None:
        self.finite = self.mismatches = self.differing = 0
        self.error = self.error_squared = self.want_squared = self.got_squared = self.product = 0.0
        self.max_error = self.max_want = 0.0

    def add(self, got: Array, want: Array) -> None:
        if got.dtype.kind in "iu" and want.dtype.kind in "iu":
            same = got == want  # before the cast: float64 cannot tell all 64-bit integers apart
            got, want = got.astype(np.float64), want.astype(np.float64)
        else:
            got, want = got.astype(np.float64), want.astype(np.float64)
            same = (got == want) | (np.isnan(got) & np.isnan(want))
        self.differing += int(np.count_nonzero(~same))
        finite = np.isfinite(got) & np.isfinite(want)
        if not finite.all():
            self.mismatches += int(np.count_nonzero(~finite & ~same))
            got, want = got[finite], want[finite]
        if not got.size:
            return
        self.finite += got.size
        # float64 outputs near the format's end overflow here; the infinities that follow are the right
        # answer.
        with np.errstate(over="ignore", invalid="ignore"):
            error = np.abs(got - want)
            self.max_error = max(self.max_error, float(error.max()))
            self.max_want = max(self.max_want, float(np.abs(want).max()))
            self.error += float(error.sum())
            self.error_squared += float(error @ error)
            self.want_squared += float(want @ want)
            self.got_squared += float(got @ got)
            self.product += float(got @ want)


def _ratio(error: float, scale: float) -> float:
    if error < FLUSHED_TO_ZERO:
        return 0.0
    if scale == 0.0:
        return math.inf
    ratio = error / scale
    return math.inf if math.isnan(ratio) else ratio


def _cosine(sums: _Sums) -> float:
    norms = math.sqrt(sums.got_squared) * math.sqrt(sums.want_squared)
    if norms == 0.0:
        return 1.0 if sums.got_squared == sums.want_squared else 0.0
    cosine = sums.product / norms
    return max(-1.0, min(1.0, cosine)) if math.isfinite(cosine) else 0.0


def _top1(got: Array, want: Array) -> float | None:
    """The fraction of rows (all but the last axis) in which both name the same winner.

    A row in which ``got`` names another one still agrees when ``want`` scores that one within ``TIE`` of
    its own best.
    """
    if want.ndim < 2 or want.shape[-1] < 2 or want.size == 0 or np.iscomplexobj(want):
        return None
    classes = want.shape[-1]
    rows = want.size // classes
    got, want = got.reshape(rows, classes), want.reshape(rows, classes)
    step = max(1, CHUNK_ELEMENTS // classes)
    agreeing = 0
    for start in range(0, rows, step):
        got_part = got[start : start + step].astype(np.float64)
        want_part = want[start : start + step].astype(np.float64)
        got_best = got_part.argmax(axis=1)
        want_best = want_part.argmax(axis=1)
        index = np.arange(len(want_part))
        best = want_part[index, want_best]
        chosen = want_part[index, got_best]
        with np.errstate(invalid="ignore"):  # inf - inf: not a tie, and not an error either
            tied = best - chosen <= TIE * np.abs(want_part).max(axis=1)
        agreeing += int(np.count_nonzero((got_best == want_best) | tied))
    return float(agreeing / rows)


def _is_floating(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "c" or DataType.from_numpy(dtype).is_floating


def _chunks(got: Array, want: Array) -> Iterator[tuple[Array, Array]]:
    """Both arrays, flat, ``CHUNK_ELEMENTS`` at a time; complex numbers as pairs of reals."""
    got, want = _flat(got), _flat(want)
    for start in range(0, want.size, CHUNK_ELEMENTS):
        stop = start + CHUNK_ELEMENTS
        yield got[start:stop], want[start:stop]


def _flat(array: Array) -> Array:
    flat = array.reshape(-1)
    if flat.dtype.kind == "c":
        flat = np.ascontiguousarray(flat).view(flat.real.dtype)
    return flat
