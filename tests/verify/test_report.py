from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest

from trine.errors import EngineFormatError
from trine.verify.metrics import measure
from trine.verify.report import Report, Row, RowIndependence


def make_report(problem: str = "") -> Report:
    want = np.array([[1.0, 2.0]], np.float32)
    good = Row("min", "logits", (1, 2), "float32", 1e-4, measure(want, want))
    bad = Row("max", "logits", (1, 2), "float32", 1e-4, measure(want * 2, want), problem)
    wrong_shape = Row("max", "mask", (3,), "bool", 1e-4, None, "expected shape (3,), got (4,)")
    rows = (good, bad, wrong_shape) if problem else (good,)
    check = RowIndependence(True, 0.0, 1e-7, 1e-4)
    return Report(not problem, "fp32", 1e-4, 7, rows, check, ("a note",))


@pytest.mark.parametrize("problem", ["", "too far"])
def test_json_round_trip(problem: str) -> None:
    report = make_report(problem)
    text = json.dumps(report.to_json(), allow_nan=False)
    assert Report.from_json(json.loads(text)) == report


def test_infinities_survive_strict_json() -> None:
    found = measure(np.ones(1, np.float32), np.zeros(1, np.float32))
    report = Report(False, "fp32", 1e-4, None, (Row("min", "y", (1,), "float32", 1e-4, found, "far"),))
    again = Report.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))
    assert again == report
    assert again.relative_error == math.inf


def test_worst_of_all_rows() -> None:
    report = make_report("too far")
    assert report.relative_error == math.inf  # one output could not be compared at all
    assert report.top1_agreement == 1.0
    assert make_report().relative_error == 0.0
    assert report.problems == ("max logits: too far", "max mask: expected shape (3,), got (4,)")


def test_table_names_everything() -> None:
    text = str(make_report("too far"))
    for part in (
        "case",
        "logits",
        "1x2",
        "1.00e+00",
        "FAIL",
        "ok",
        "problem: max logits: too far",
        "note: a note",
    ):
        assert part in text
    assert text.splitlines()[-1] == "FAILED: fp32, budget 0.0001, seed 7"
    assert all(len(line) <= 130 for line in text.splitlines())


def damage(path: list[Any], value: Any) -> Any:
    entry = copy.deepcopy(make_report("x").to_json())
    place = entry
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return entry


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["passed"], 1),
        (["rows"], {}),
        (["rows", 0, "metrics", "elements"], 1.5),
        (["rows", 0, "metrics", "max_abs_error"], "big"),
        (["rows", 0, "shape"], [True]),
        (["rows", 0, "extra"], 1),
        (["row_independence"], []),
        (["row_independence", "error"], None),
        (["seed"], "7"),
        (["notes"], [1]),
        (["tolerance"], True),
        (["tolerance"], []),
        (["rows"], [None] * 20_000),
    ],
)
def test_damaged_json_is_refused(path: list[Any], value: Any) -> None:
    with pytest.raises(EngineFormatError, match=r"^manifest: evidence"):
        Report.from_json(damage(path, value))


def test_missing_key_is_named() -> None:
    entry = make_report().to_json()
    del entry["precision"]
    with pytest.raises(EngineFormatError, match=r"missing or unknown keys \['precision'\]"):
        Report.from_json(entry)
