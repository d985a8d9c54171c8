"""Every metric against a case that can be worked out by hand."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from trine.verify import metrics
from trine.verify.metrics import measure


def test_equal_arrays_have_no_error() -> None:
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    found = measure(x, x)
    assert (found.max_abs_error, found.relative_error, found.relative_l2, found.differing_elements) == (
        0,
        0,
        0,
        0,
    )
    assert found.cosine_similarity == pytest.approx(1.0)
    assert found.top1_agreement == 1.0


def test_errors_by_hand() -> None:
    want = np.array([[3.0, -4.0]], np.float32)
    got = np.array([[3.0, -3.0]], np.float32)
    found = measure(got, want)
    assert found.max_abs_error == 1.0
    assert found.mean_abs_error == 0.5
    assert found.relative_error == 0.25  # 1 / 4, the largest of want
    assert found.relative_l2 == pytest.approx(1 / 5)
    assert found.cosine_similarity == pytest.approx((9 + 12) / (5 * math.sqrt(18)))
    assert found.differing_elements == 1


def test_zero_over_zero_is_zero_and_something_over_zero_is_infinite() -> None:
    zeros = np.zeros((2, 2), np.float32)
    assert measure(zeros, zeros).relative_error == 0
    assert measure(zeros, zeros).cosine_similarity == 1
    assert measure(zeros + 1e-3, zeros).relative_error == math.inf
    assert measure(zeros + 1e-3, zeros).cosine_similarity == 0


def test_denormals_flushed_to_zero_are_no_error() -> None:
    want = np.array([1e-40, 1e-41], np.float32)
    assert measure(np.zeros(2, np.float32), want).relative_error == 0


def test_empty_arrays_agree() -> None:
    empty = np.zeros((0, 7), np.float32)
    found = measure(empty, empty)
    assert found.relative_error == found.max_abs_error == found.mean_abs_error == 0
    assert found.top1_agreement is None
    assert measure(np.zeros(0, np.int64), np.zeros(0, np.int64)).relative_error == 0


def test_nan_and_inf_count_only_where_one_side_has_them() -> None:
    nan, inf = math.nan, math.inf
    want = np.array([nan, inf, -inf, 1.0, 2.0, nan], np.float32)
    assert measure(want.copy(), want).nonfinite_mismatches == 0
    got = np.array([nan, -inf, -inf, nan, 2.0, 1.0], np.float32)
    found = measure(got, want)
    assert found.nonfinite_mismatches == 3
    assert found.relative_error == 0  # of what is finite in both
    assert measure(np.full(4, nan, np.float32), np.full(4, nan, np.float32)).relative_error == 0


def test_integers_count_differing_elements() -> None:
    want = np.array([1, 2, 3, 4], np.int64)
    found = measure(np.array([1, 2, 3, 9], np.int64), want)
    assert found.differing_elements == 1
    assert found.relative_error == 0.25
    assert found.max_abs_error == 5
    assert found.top1_agreement is None
    assert measure(np.array([True, False]), np.array([True, True])).relative_error == 0.5


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.float64])
def test_narrow_and_wide_floats(dtype: type) -> None:
    want = np.array([[1.0, 2.0], [4.0, 0.5]], dtype)
    found = measure(np.array([[1.0, 2.0], [3.0, 0.5]], dtype), want)
    assert found.relative_error == 0.25
    assert found.top1_agreement == 1.0


def test_complex_and_strings() -> None:
    want = np.array([3 + 4j], np.complex64)
    assert measure(np.array([3 + 3j], np.complex64), want).relative_error == 0.25
    words = np.array(["a", "b"], object)
    assert measure(np.array(["a", "c"], object), words).relative_error == 0.5


def test_top1_counts_rows_and_forgives_ties() -> None:
    want = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0 - 1e-6, 0.0], [1.0, 0.9, 0.0]], np.float32)
    got = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0 + 1e-6, 0.0], [0.9, 1.0, 0.0]], np.float32)
    assert measure(got, want).top1_agreement == 0.5  # row 2 is a tie, rows 1 and 3 are not


def test_top1_has_no_meaning_for_vectors_and_single_columns() -> None:
    assert measure(np.zeros(4), np.zeros(4)).top1_agreement is None
    assert measure(np.zeros((4, 1)), np.zeros((4, 1))).top1_agreement is None


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    want = rng.standard_normal((17, 23)).astype(np.float32)
    got = want + rng.standard_normal((17, 23)).astype(np.float32) * 1e-3
    whole = measure(got, want)
    monkeypatch.setattr(metrics, "CHUNK_ELEMENTS", 7)
    parts = measure(got, want)
    assert parts.relative_error == whole.relative_error
    assert parts.relative_l2 == pytest.approx(whole.relative_l2)
    assert parts.top1_agreement == whole.top1_agreement


def test_strided_arrays() -> None:
    want = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert measure(want.T[::2], want.T[::2].copy()).relative_error == 0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3,\)"):
        measure(np.zeros(3), np.zeros(2))


def test_integers_that_float64_cannot_tell_apart() -> None:
    want = np.array([2**62, 2**62 + 1], np.int64)
    assert measure(want + 1, want).differing_elements == 2


def test_values_near_the_end_of_float64() -> None:
    want = np.array([1e308, -1e308])
    found = measure(-want, want)
    assert found.relative_error == math.inf
