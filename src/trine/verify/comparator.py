"""Run an engine and its source on the same inputs, and say how far apart their answers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.verify.inputs import Case
from trine.verify.metrics import measure
from trine.verify.neighbours import BatchAxis, check_rows_independent
from trine.verify.report import Report, Row, RowIndependence
from trine.verify.tolerances import INTEGER_SHARE, budget_for, source_budget

__all__ = ["compare"]

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def compare(
    run: Run,
    reference: Run,
    cases: Sequence[Case],
    tolerance: float | None = None,
    *,
    precision: str = "fp32",
    seed: int | None = None,
    axis: BatchAxis | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Compare ``run`` (the engine) with ``reference`` (the source) on every case; both map inputs to
    outputs by name.

    An output passes when its relative error is within ``tolerance`` (None: the table's for ``precision``,
    or what a half-precision source allows), and NaN and Inf are where the source has them. With ``axis``,
    rows' independence of their neighbours is checked on the largest case that is not tiled; tiled cases
    gather the source's answers where that check finds its rows independent. ``seed`` is only recorded.
    Raises what the two callables raise.
    """
    budget = budget_for(precision, tolerance)
    rows: list[Row] = []
    found_notes = list(notes)
    answered: dict[str, Arrays] = {}
    checked = _case_to_check(cases, axis)
    independence: RowIndependence | None = None
    if axis is not None and checked is None:
        found_notes.append("independence of neighbours not checked: no case has two rows")
    for case in sorted(cases, key=lambda case: case.tiling is not None):  # tiled ones last; otherwise in order
        # The engine first: it refuses inputs that do not fit in clearer words than most sources do.
        got = _own(run(case.inputs))
        want = _gathered(case, answered, independence, axis)
        gathered = want is not None
        if want is None:
            want = _own(reference(case.inputs))
        answered[case.name] = want
        case_rows = _compare_outputs(case.name, got, want, budget, widen=tolerance is None)
        if not gathered and not all(row.passed for row in case_rows) and not _repeats(reference, case, want):
            found_notes.append(
                f"{case.name}: the source itself answers the same inputs differently each time (dropout or "
                "sampling in forward?), so no engine can agree with it"
            )
        rows += case_rows
        if axis is not None and case is checked:
            independence = check_rows_independent(run, reference, case.inputs, want, got, axis, budget)
    passed = all(row.passed for row in rows) and (independence is None or independence.passed)
    return Report(passed, precision, budget, seed, tuple(rows), independence, tuple(found_notes))


def _case_to_check(cases: Sequence[Case], axis: BatchAxis | None) -> Case | None:
    """The case on which to check rows: the one that others are tiled from, else the largest with two rows
    or more."""
    if axis is None:
        return None
    bases = {case.tiling.base for case in cases if case.tiling is not None}
    fitting = [case for case in cases if case.tiling is None and _batch(case, axis) >= 2]
    return max(fitting, key=lambda case: (case.name in bases, _batch(case, axis)), default=None)


def _batch(case: Case, axis: BatchAxis) -> int:
    """The case's batch; 0 for inputs that do not fit the engine, which it will refuse."""
    array = case.inputs.get(axis.inputs[0])
    return array.shape[0] if array is not None and array.ndim else 0


def _gathered(
    case: Case, answered: Mapping[str, Arrays], independence: RowIndependence | None, axis: BatchAxis | None
) -> Arrays | None:
    """The source's answers to a tiled case, from those to its base; None when they must be computed."""
    if case.tiling is None or axis is None or independence is None or not independence.source_independent:
        return None
    base = answered.get(case.tiling.base)
    if base is None or any(name not in axis.outputs for name in base):
        return None
    return {name: array[case.tiling.rows] for name, array in base.items()}


def _own(answers: Mapping[str, Array]) -> Arrays:
    """Copies: an engine may hand out its own buffers, which the next call overwrites."""
    return {name: np.array(array) for name, array in answers.items()}


def _repeats(reference: Run, case: Case, want: Arrays) -> bool:
    """Whether the source gives the same answers again. Only asked once something is wrong."""
    again = reference(case.inputs)
    return all(
        again[name].shape == array.shape and measure(np.asarray(again[name]), array).relative_error < 1e-6
        for name, array in want.items()
    )


def _compare_outputs(case: str, got: Arrays, want: Arrays, budget: float, *, widen: bool) -> list[Row]:
    rows = []
    for name, array in want.items():
        dtype = DataType.from_numpy(array.dtype)
        limit = budget
        if widen:
            limit = max(budget, source_budget(dtype) if dtype.is_floating else INTEGER_SHARE)
        rows.append(_compare_output(case, name, got.get(name), array, dtype, limit))
    for name in got.keys() - want.keys():
        shape, dtype_name = got[name].shape, str(got[name].dtype)
        rows.append(Row(case, name, shape, dtype_name, budget, None, "the source has no such output"))
    return rows


def _compare_output(case: str, name: str, got: Array | None, want: Array, dtype: DataType, limit: float) -> Row:
    problem, metrics = "", None
    if got is None:
        problem = "the engine gives no such output"
    elif got.shape != want.shape:
        problem = f"expected shape {want.shape}, got {got.shape}"
    elif _kind(got.dtype) != _kind(want.dtype):
        problem = f"expected dtype {want.dtype}, got {got.dtype}"
    else:
        metrics = measure(got, want)
        if metrics.nonfinite_mismatches:
            problem = f"{metrics.nonfinite_mismatches} NaN or Inf where the source has none, or the other way round"
        elif not metrics.relative_error <= limit:
            what = "relative error" if dtype.is_floating else "share of differing elements"
            problem = f"{what} {metrics.relative_error:.3g} is above the budget {limit:g}"
    return Row(case, name, want.shape, str(want.dtype), limit, metrics, problem)


def _kind(dtype: np.dtype[Any]) -> str:
    """float, bool, int, complex or string: widths may differ between an engine and a callable, kinds may
    not."""
    known = DataType.from_numpy(dtype)
    if known.is_floating:
        return "float"
    if known in (DataType.BOOL, DataType.STRING):
        return str(known.value)
    return "complex" if dtype.kind == "c" else "int"
