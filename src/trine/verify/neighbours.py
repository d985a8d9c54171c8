"""Whether a row's answer depends on its neighbours in the batch.

A batched engine may leak between rows (a scale taken over the whole batch, a reshape that mixes axes, a NaN
that spreads); the person in row 3 must get the answer they would get alone. So some rows are answered
again: alone (or in the profile's smallest batch), at another position among larger neighbours, and beside a
row of NaN. The source is asked the same. Only where the source's answer stays is the engine's change an
error: a model that normalises over its batch is right to mix rows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.profile import OptimizationProfile
from trine.verify.inputs import BATCH
from trine.verify.metrics import measure
from trine.verify.report import RowIndependence
from trine.verify.tolerances import BUDGETS, FLUSHED_TO_ZERO, INTEGER_SHARE, source_budget

__all__ = ["BatchAxis", "batch_axis", "check_rows_independent"]

log = logging.getLogger("trine")

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

LARGER = 3.0  # neighbours are scaled by this: a scale shared over the batch then changes visibly


@dataclass(frozen=True)
class BatchAxis:
    """Which inputs and outputs have the batch as their axis 0, and the batch sizes allowed."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    min_batch: int
    max_batch: int


@dataclass(frozen=True)
class _Trial:
    what: str
    inputs: Arrays
    position: int  # where the row is now
    row: int  # which row of the base batch it is


def batch_axis(
    inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], profile: OptimizationProfile
) -> BatchAxis | None:
    """The batch axis of a model whose tensors call their first dimension "batch"; None when none does."""
    batched_in = tuple(info.name for info in inputs if info.shape and info.shape[0] == BATCH)
    batched_out = tuple(info.name for info in outputs if info.shape and info.shape[0] == BATCH)
    if not batched_in or not batched_out:
        return None
    ranges = [profile.ranges[name] for name in batched_in]
    return BatchAxis(batched_in, batched_out, max(r.min[0] for r in ranges), min(r.max[0] for r in ranges))


def check_rows_independent(
    run: Run,
    reference: Run,
    inputs: Mapping[str, Array],
    want: Mapping[str, Array],
    got: Mapping[str, Array],
    axis: BatchAxis,
    tolerance: float,
) -> RowIndependence:
    """Answer some rows of a batch of at least two again, elsewhere, by ``run`` (the engine) and by
    ``reference``.

    ``want`` and ``got`` are their answers to ``inputs``. A change is ``max|again - before|`` of the row over
    ``max|before|`` of the whole output. The engine's may be ``tolerance``; the source counts as independent
    within fp32's budget, or its own dtype's.
    """
    source_error = error = 0.0
    independent = True
    problems = []
    for trial in _trials(inputs, axis):
        try:
            answers = reference(trial.inputs)
        except Exception as err:  # noqa: BLE001  # the source's own code: it may refuse NaN, as an index for example
            log.info("rows are not tried %s: the source refuses that: %s", trial.what, " ".join(str(err).split())[:200])
            continue
        change, limit = _change(answers, want, trial, axis)
        planted = trial.what.startswith("beside NaN")
        if not planted:
            source_error = max(source_error, change)
        if change > limit:
            independent = independent and planted
            continue  # the source's own answer moves: nothing to hold the engine to
        # Where a narrow format breaks near ties, another batch size may break them otherwise: only fp32's
        # indices are held to stay.
        change, _ = _change(run(trial.inputs), got, trial, axis, integers=tolerance <= INTEGER_SHARE)
        error = max(error, change)
        if not change <= tolerance:
            problems.append(
                f"row {trial.row}'s answer changes by {change:.2g} {trial.what}, and the source's does not; "
                f"allowed: {tolerance:g}"
            )
    if not independent:
        return RowIndependence(False, source_error, error, tolerance)
    return RowIndependence(True, source_error, error, tolerance, "; ".join(problems))


def _trials(inputs: Mapping[str, Array], axis: BatchAxis) -> Iterator[_Trial]:
    batch = inputs[axis.inputs[0]].shape[0]
    least, pair = max(1, axis.min_batch), min(max(2, axis.min_batch), axis.max_batch)
    last = batch - 1
    around = (np.arange(least) + last) % batch  # the last row first, then from the top
    yield _Trial("alone" if least == 1 else f"in a batch of {least}", _take(inputs, axis, around), 0, last)
    if pair < 2:
        return
    order = (np.arange(pair) - pair + 1) % batch  # row 0 moves to the end, behind the batch's last rows
    place = pair - 1
    yield _Trial("among larger neighbours", _change_others(_take(inputs, axis, order), axis, place, LARGER), place, 0)
    if any(_is_floating(inputs[name]) for name in axis.inputs):
        order = np.arange(pair) % batch
        yield _Trial("beside NaN", _change_others(_take(inputs, axis, order), axis, 0, math.nan), 0, 0)


def _take(inputs: Mapping[str, Array], axis: BatchAxis, rows: Array) -> Arrays:
    return {name: array[rows] if name in axis.inputs else array for name, array in inputs.items()}


def _change_others(inputs: Arrays, axis: BatchAxis, keep: int, factor: float) -> Arrays:
    """Multiply every row but ``keep`` of the floating-point inputs; ``inputs``' batched arrays are our own
    copies."""
    for name in axis.inputs:
        array = inputs[name]
        if _is_floating(array):
            others = np.arange(array.shape[0]) != keep
            with np.errstate(over="ignore"):  # a half-precision neighbour may become Inf: large all the same
                array[others] = (array[others].astype(np.float64) * factor).astype(array.dtype)
    return inputs


def _change(
    answers: Mapping[str, Array], before: Mapping[str, Array], trial: _Trial, axis: BatchAxis, *, integers: bool = True
) -> tuple[float, float]:
    """The largest relative change of the trial's row over all batched outputs, and what a source may change
    by."""
    change, limit = 0.0, BUDGETS["fp32"]
    for name in axis.outputs:
        if name not in answers or name not in before:
            return math.inf, limit
        again, base = np.asarray(answers[name]), np.asarray(before[name])
        fits = again.ndim == base.ndim and again.ndim > 0 and again.shape[1:] == base.shape[1:]
        if not fits or trial.position >= again.shape[0] or trial.row >= base.shape[0]:
            return math.inf, limit
        found = measure(again[trial.position], base[trial.row])
        if found.nonfinite_mismatches:
            return math.inf, limit
        if _is_floating(base):
            limit = max(limit, source_budget(DataType.from_numpy(base.dtype)))
            change = max(change, _relative(found.max_abs_error, base))
        elif integers:
            change = max(change, found.relative_error)
    return change, limit


def _relative(error: float, base: Array) -> float:
    if error < FLUSHED_TO_ZERO:
        return 0.0
    finite = base[np.isfinite(base)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    return error / scale if scale > 0 else math.inf


def _is_floating(array: Array) -> bool:
    return array.dtype.kind != "c" and DataType.from_numpy(array.dtype).is_floating
