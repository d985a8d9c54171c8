"""What a comparison found: plain frozen data, JSON for the engine file, a table for people."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trine.errors import EngineFormatError
from trine.verify.metrics import Metrics

__all__ = ["Report", "Row", "RowIndependence"]

_MAX_ROWS = 10_000  # far above any real report; bounds what a damaged file can make us build


@dataclass(frozen=True)
class Row:
    """One output of one case. ``problem`` says why it failed, and is empty when it passed."""

    case: str
    output: str
    shape: tuple[int, ...]
    dtype: str
    tolerance: float
    metrics: Metrics | None  # None when the shapes or kinds differ, so that nothing can be measured
    problem: str = ""

    @property
    def passed(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class RowIndependence:
    """Whether one row's answer stays the same when its neighbours, its place or the batch size change."""

    source_independent: bool  # False: the source itself mixes rows, so the engine may
    source_error: float  # largest relative change of a row, in the source
    error: float  # the same, in the engine
    tolerance: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class Report:
    """The evidence that an engine answers as its source does, or that it does not."""

    passed: bool
    precision: str
    tolerance: float
    seed: int | None  # None: no random inputs were made
    rows: tuple[Row, ...]
    row_independence: RowIndependence | None = None  # None: not checked; ``notes`` says why
    notes: tuple[str, ...] = ()

    @property
    def relative_error(self) -> float:
        """The worst over all rows; inf when an output could not even be compared, 0 when there are none."""
        return max((math.inf if r.metrics is None else r.metrics.relative_error for r in self.rows), default=0.0)

    @property
    def max_abs_error(self) -> float:
        """The worst over all rows; inf when an output could not even be compared, 0 when there are none."""
        return max((math.inf if r.metrics is None else r.metrics.max_abs_error for r in self.rows), default=0.0)

    @property
    def top1_agreement(self) -> float | None:
        """The worst over all rows that have one; None when none does."""
        known = [r.metrics.top1_agreement for r in self.rows if r.metrics is not None]
        return min((value for value in known if value is not None), default=None)

    @property
    def nonfinite_mismatches(self) -> int:
        """NaN and Inf that only one side gives, over all rows."""
        return sum(r.metrics.nonfinite_mismatches for r in self.rows if r.metrics is not None)

    @property
    def problems(self) -> tuple[str, ...]:
        """Every reason for which the report failed; empty when it passed."""
        found = [f"{row.case} {row.output}: {row.problem}" for row in self.rows if row.problem]
        if self.row_independence is not None and self.row_independence.problem:
            found.append(self.row_independence.problem)
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """As JSON values. Infinities and NaN, which JSON lacks, become the strings "inf", "-inf" and
        "nan"."""
        return {
            "passed": self.passed,
            "precision": self.precision,
            "tolerance": _number_out(self.tolerance),
            "seed": self.seed,
            "rows": [_row_out(row) for row in self.rows],
            "row_independence": _fields_out(self.row_independence) if self.row_independence else None,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, value: Any) -> Report:
        """The report that ``to_json`` wrote. Raises EngineFormatError for anything else."""
        entry = _object(value, cls, "evidence")
        rows = _list(entry["rows"], "evidence.rows")
        independence = entry["row_independence"]
        return cls(
            passed=_bool(entry["passed"], "evidence.passed"),
            precision=_text(entry["precision"], "evidence.precision"),
            tolerance=_number(entry["tolerance"], "evidence.tolerance"),
            seed=None if entry["seed"] is None else _integer(entry["seed"], "evidence.seed"),
            rows=tuple(_row_in(row, f"evidence.rows[{index}]") for index, row in enumerate(rows)),
            row_independence=None if independence is None else _independence_in(independence),
            notes=tuple(_text(note, "evidence.notes") for note in _list(entry["notes"], "evidence.notes")),
        )

    def __str__(self) -> str:
        header = (
            "case",
            "output",
            "shape",
            "rel. error",
            "budget",
            "max abs",
            "rel. L2",
            "cosine",
            "top-1",
            "NaN/Inf",
            "",
        )
        lines = _align([header, *(_cells(row) for row in self.rows)])
        lines.insert(1, "-" * max(len(line) for line in lines))
        if self.row_independence is not None:
            check = self.row_independence
            if check.source_independent:
                verdict = "ok" if check.passed else "FAIL"
                lines.append(f"rows keep their answers beside others: {verdict}, largest change {check.error:.2g}")
            else:
                lines.append(f"the source itself mixes rows (change {check.source_error:.2g}): neighbours not judged")
        lines += [f"problem: {problem}" for problem in self.problems]
        lines += [f"note: {note}" for note in self.notes]
        seed = "no random inputs" if self.seed is None else f"seed {self.seed}"
        verdict = "PASSED" if self.passed else "FAILED"
        lines.append(f"{verdict}: {self.precision}, budget {self.tolerance:g}, {seed}")
        return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    shape = "x".join(map(str, row.shape)) or "scalar"
    verdict = "ok" if row.passed else "FAIL"
    m = row.metrics
    if m is None:
        return (row.case, row.output, shape, "-", f"{row.tolerance:g}", "-", "-", "-", "-", "-", verdict)
    top1 = "-" if m.top1_agreement is None else f"{m.top1_agreement:.1%}"
    return (
        row.case,
        row.output,
        shape,
        f"{m.relative_error:.2e}",
        f"{row.tolerance:g}",
        f"{m.max_abs_error:.2e}",
        f"{m.relative_l2:.2e}",
        f"{m.cosine_similarity:.6f}",
        top1,
        str(m.nonfinite_mismatches),
        verdict,
    )


def _align(table: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    left = 3  # names and shapes to the left, numbers to the right
    return [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]


# JSON out


def _number_out(value: float) -> float | str:
    return value if math.isfinite(value) else str(float(value))


def _fields_out(value: Metrics | RowIndependence) -> dict[str, Any]:
    return {
        name: _number_out(item) if isinstance(item, float) else item for name, item in dataclasses.asdict(value).items()
    }


def _row_out(row: Row) -> dict[str, Any]:
    return {
        "case": row.case,
        "output": row.output,
        "shape": list(row.shape),
        "dtype": row.dtype,
        "tolerance": _number_out(row.tolerance),
        "metrics": _fields_out(row.metrics) if row.metrics else None,
        "problem": row.problem,
    }


# JSON in: strict, as the bytes may come from anywhere


def _row_in(value: Any, where: str) -> Row:
    entry = _object(value, Row, where)
    return Row(
        case=_text(entry["case"], f"{where}.case"),
        output=_text(entry["output"], f"{where}.output"),
        shape=tuple(_integer(dim, f"{where}.shape") for dim in _list(entry["shape"], f"{where}.shape")),
        dtype=_text(entry["dtype"], f"{where}.dtype"),
        tolerance=_number(entry["tolerance"], f"{where}.tolerance"),
        metrics=None if entry["metrics"] is None else _metrics_in(entry["metrics"], f"{where}.metrics"),
        problem=_text(entry["problem"], f"{where}.problem"),
    )


def _metrics_in(value: Any, where: str) -> Metrics:
    entry = _object(value, Metrics, where)
    top1 = entry["top1_agreement"]
    return Metrics(
        elements=_integer(entry["elements"], f"{where}.elements"),
        max_abs_error=_number(entry["max_abs_error"], f"{where}.max_abs_error"),
        mean_abs_error=_number(entry["mean_abs_error"], f"{where}.mean_abs_error"),
        relative_error=_number(entry["relative_error"], f"{where}.relative_error"),
        relative_l2=_number(entry["relative_l2"], f"{where}.relative_l2"),
        cosine_similarity=_number(entry["cosine_similarity"], f"{where}.cosine_similarity"),
        top1_agreement=None if top1 is None else _number(top1, f"{where}.top1_agreement"),
        nonfinite_mismatches=_integer(entry["nonfinite_mismatches"], f"{where}.nonfinite_mismatches"),
        differing_elements=_integer(entry["differing_elements"], f"{where}.differing_elements"),
    )


def _independence_in(value: Any) -> RowIndependence:
    where = "evidence.row_independence"
    entry = _object(value, RowIndependence, where)
    return RowIndependence(
        source_independent=_bool(entry["source_independent"], f"{where}.source_independent"),
        source_error=_number(entry["source_error"], f"{where}.source_error"),
        error=_number(entry["error"], f"{where}.error"),
        tolerance=_number(entry["tolerance"], f"{where}.tolerance"),
        problem=_text(entry["problem"], f"{where}.problem"),
    )


def _damaged(where: str, want: str, got: Any) -> EngineFormatError:
    return EngineFormatError(f"{where}: expected {want}, got {type(got).__name__}", "manifest")


def _object(value: Any, shape: type[Any], where: str) -> Mapping[str, Any]:
    names = {item.name for item in dataclasses.fields(shape)}
    if not isinstance(value, dict):
        raise _damaged(where, "an object", value)
    if set(value) != names:
        odd = sorted(map(str, set(value) ^ names))
        raise EngineFormatError(f"{where}: missing or unknown keys {odd}; expected {sorted(names)}", "manifest")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_ROWS:
        raise _damaged(where, f"a list of at most {_MAX_ROWS}", value)
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _damaged(where, "a string", value)
    return value


def _bool(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _damaged(where, "true or false", value)
    return value


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _damaged(where, "an integer", value)
    return value


def _number(value: Any, where: str) -> float:
    if value in ("inf", "-inf", "nan"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _damaged(where, "a number", value)
    return float(value)
