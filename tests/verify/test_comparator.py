"""The comparator on small models in numpy: right ones pass, each kind of wrong one fails with its reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import InputError
from trine.profile import OptimizationProfile, ShapeRange
from trine.verify.comparator import compare
from trine.verify.inputs import Case, build_cases
from trine.verify.neighbours import batch_axis

Arrays = Mapping[str, np.ndarray[Any, Any]]
WEIGHT = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
INPUT = TensorInfo("x", DataType.FLOAT32, ("batch", 6))
OUTPUT = TensorInfo("y", DataType.FLOAT32, ("batch", 5))
PROFILE = OptimizationProfile({"x": ShapeRange((1, 6), (4, 6), (16, 6))})
AXIS = batch_axis((INPUT,), (OUTPUT,), PROFILE)
EXAMPLE = {"x": np.random.default_rng(1).standard_normal((2, 6)).astype(np.float32)}
CASES = build_cases(PROFILE, EXAMPLE, (INPUT,), 0)


def linear(inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    return {"y": inputs["x"] @ WEIGHT}


def batch_normalised(inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    y = inputs["x"] @ WEIGHT
    return {"y": y - y.mean(axis=0)}


class Counting:
    def __init__(self, model: Callable[[Arrays], dict[str, Any]]) -> None:
        self.model, self.rows = model, 0

    def __call__(self, inputs: Arrays) -> dict[str, Any]:
        self.rows += inputs["x"].shape[0]
        return self.model(inputs)


def test_a_right_engine_passes() -> None:
    report = compare(linear, linear, CASES, precision="fp32", seed=0, axis=AXIS)
    assert report.passed, str(report)
    assert {row.case for row in report.rows} == {"example", "min", "opt", "max"}
    assert report.row_independence is not None
    assert report.row_independence.source_independent
    assert report.relative_error < 1e-6
    assert report.top1_agreement == 1.0


def test_the_source_computes_only_the_distinct_rows_of_the_largest_batch() -> None:
    source, engine = Counting(linear), Counting(linear)
    assert compare(engine, source, CASES, axis=AXIS).passed
    assert engine.rows - source.rows == 16
    assert source.rows == 2 + 1 + 4 + 5  # example, min, opt, and the five rows of the neighbour trials


def test_a_source_that_mixes_rows_is_not_held_against_the_engine_and_computes_in_full() -> None:
    source = Counting(batch_normalised)
    report = compare(batch_normalised, source, CASES, axis=AXIS)
    assert report.passed, str(report)
    assert source.rows == 2 + 1 + 4 + 5 + 16
    assert report.row_independence is not None
    assert not report.row_independence.source_independent
    assert "the source itself mixes rows" in str(report)


def test_an_engine_that_is_wrong_only_at_the_largest_batch_fails() -> None:
    def wrong(inputs: Arrays) -> dict[str, Any]:
        y = inputs["x"] @ WEIGHT
        if len(y) == 16:
            y[11] += 0.01
        return {"y": y}

    report = compare(wrong, linear, CASES, axis=AXIS)
    assert not report.passed
    assert [row.case for row in report.rows if not row.passed] == ["max"]
    assert "relative error" in report.problems[0]


def test_an_engine_whose_rows_leak_fails() -> None:
    def leaking(inputs: Arrays) -> dict[str, Any]:
        scale = np.abs(inputs["x"]).max() / 127  # dynamic quantisation with one scale for the whole batch
        return {"y": (np.round(inputs["x"] / scale) * scale) @ WEIGHT}

    report = compare(leaking, linear, CASES, 0.05, axis=AXIS)
    assert all(row.passed for row in report.rows)  # each answer is good enough by itself
    strict = compare(leaking, linear, CASES, 1e-3, axis=AXIS)
    assert strict.row_independence is not None
    assert "among larger neighbours" in strict.row_independence.problem


def test_an_engine_that_spreads_nan_to_its_neighbours_fails() -> None:
    def spreading(inputs: Arrays) -> dict[str, Any]:
        y = inputs["x"] @ WEIGHT
        return {"y": y + 0 * inputs["x"].sum()}

    report = compare(spreading, linear, CASES, axis=AXIS)
    assert all(row.passed for row in report.rows)
    assert not report.passed
    assert report.row_independence is not None
    assert "beside NaN" in report.row_independence.problem
    assert compare(spreading, spreading, CASES, axis=AXIS).passed  # the source does it too


def test_fixed_batches_are_permuted() -> None:
    fixed = OptimizationProfile({"x": ShapeRange((4, 6), (4, 6), (4, 6))})
    axis = batch_axis((INPUT,), (OUTPUT,), fixed)
    seen = set()

    def run(inputs: Arrays) -> dict[str, Any]:
        seen.add(inputs["x"].shape[0])
        return linear(inputs)

    report = compare(run, linear, build_cases(fixed, {"x": np.ones((4, 6), np.float32)}, (INPUT,)), axis=axis)
    assert report.passed
    assert report.row_independence is not None
    assert seen == {4}


def test_a_single_row_cannot_be_checked_and_the_report_says_so() -> None:
    report = compare(linear, linear, [Case("only", {"x": EXAMPLE["x"][:1]})], axis=AXIS)
    assert report.passed
    assert report.row_independence is None
    assert "no case has two rows" in report.notes[0]


def test_nan_where_the_source_has_none_fails_and_nan_where_it_has_passes() -> None:
    planted = {"x": EXAMPLE["x"].copy()}
    planted["x"][1, 2] = np.nan
    assert compare(linear, linear, [Case("nan", planted)]).passed

    def broken(inputs: Arrays) -> dict[str, Any]:
        y = inputs["x"] @ WEIGHT
        y[0, 0] = np.inf
        return {"y": y}

    report = compare(broken, linear, [Case("clean", EXAMPLE)])
    assert not report.passed
    assert "1 NaN or Inf where the source has none" in report.problems[0]
    hiding = compare(lambda i: {"y": np.nan_to_num(linear(i)["y"])}, linear, [Case("nan", planted)])
    assert hiding.nonfinite_mismatches == 5


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({}, "gives no such output"),
        ({"y": np.zeros((2, 4), np.float32)}, r"expected shape (2, 5), got (2, 4)"),
        ({"y": np.zeros((2, 5), np.int64)}, "expected dtype float32, got int64"),
        ({"y": EXAMPLE["x"] @ WEIGHT, "z": np.zeros(1)}, "the source has no such output"),
    ],
)
def test_outputs_that_cannot_be_compared(answer: Arrays, problem: str) -> None:
    report = compare(lambda _: answer, linear, [Case("example", EXAMPLE)])
    assert not report.passed
    assert problem in report.problems[0]


def test_a_half_precision_source_widens_the_budget_unless_one_is_given() -> None:
    def half(inputs: Arrays) -> dict[str, Any]:
        return {"y": linear(inputs)["y"].astype(np.float16)}

    def nearly(inputs: Arrays) -> dict[str, Any]:
        return {"y": (linear(inputs)["y"] * 1.002).astype(np.float16)}

    assert compare(nearly, half, [Case("example", EXAMPLE)]).passed
    assert not compare(nearly, half, [Case("example", EXAMPLE)], 1e-4).passed


def test_indices_must_be_equal() -> None:
    def index(inputs: Arrays) -> dict[str, Any]:
        return {"y": (inputs["x"] @ WEIGHT).argmax(1)}

    assert compare(index, index, [Case("example", EXAMPLE)]).passed
    report = compare(lambda i: {"y": index(i)["y"] + 1}, index, [Case("example", EXAMPLE)])
    assert "share of differing elements 1 is above" in report.problems[0]


def test_an_engine_that_reuses_its_buffers_is_judged_by_what_it_answered() -> None:
    buffers: dict[int, np.ndarray[Any, Any]] = {}

    def reusing(inputs: Arrays) -> dict[str, Any]:
        y = buffers.setdefault(len(inputs["x"]), np.empty((len(inputs["x"]), 5), np.float32))
        np.matmul(inputs["x"], WEIGHT, out=y)
        return {"y": y}

    assert compare(reusing, linear, CASES, axis=AXIS).passed


def test_a_source_that_does_not_repeat_itself_is_named() -> None:
    noise = itertools.count()

    def random(inputs: Arrays) -> dict[str, Any]:
        return {"y": linear(inputs)["y"] + next(noise)}

    report = compare(linear, random, [Case("first", EXAMPLE), Case("second", EXAMPLE)])
    assert not report.passed
    assert "answers the same inputs differently each time" in report.notes[0]


def test_inputs_that_do_not_fit_are_refused_by_the_engine_in_its_words() -> None:
    def refuse(inputs: Arrays) -> dict[str, Any]:
        raise InputError("unknown input")

    for inputs in ({"wrong": EXAMPLE["x"]}, {"x": np.float32(1.0).reshape(())}):
        with pytest.raises(InputError, match="unknown input"):
            compare(refuse, linear, [Case("example", inputs)], axis=AXIS)


def test_half_precision_indices_may_break_ties_otherwise_in_another_batch() -> None:
    def index(inputs: Arrays) -> dict[str, Any]:
        y = inputs["x"] @ WEIGHT
        y[:, len(y) % 5] += 1.0  # another winner at another batch size
        return {"y": y.argmax(1)}

    report = compare(index, lambda i: {"y": (i["x"] @ WEIGHT).argmax(1)}, CASES, precision="bf16", axis=AXIS)
    assert report.row_independence is not None
    assert report.row_independence.passed
    report = compare(index, lambda i: {"y": (i["x"] @ WEIGHT).argmax(1)}, CASES, axis=AXIS)
    assert report.row_independence is not None
    assert not report.row_independence.passed


def test_a_source_that_refuses_nan_beside_a_row_is_not_asked_for_it() -> None:
    def refuses(inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        if np.isnan(inputs["x"]).any():
            raise ValueError("not positive-definite")
        return linear(inputs)

    report = compare(linear, refuses, CASES, axis=AXIS)
    assert report.passed, str(report)
    assert report.row_independence is not None
    assert report.row_independence.source_independent
