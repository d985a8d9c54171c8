from __future__ import annotations

import math

import pytest

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.verify.tolerances import BUDGETS, budget_for, source_budget


def test_the_promise_for_fp32() -> None:
    assert budget_for("fp32") == 1e-4


def test_narrower_formats_have_wider_budgets() -> None:
    order = [BUDGETS[p] for p in ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")]
    assert order == sorted(order)


def test_override() -> None:
    assert budget_for("bf16", 0.5) == 0.5


def test_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'fp31'.*fp32, tf32, fp16, bf16"):
        budget_for("fp31")


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_must_be_positive_and_finite(budget: float) -> None:
    with pytest.raises(ConfigError, match="positive finite number"):
        budget_for("fp32", budget)


def test_half_precision_sources_set_their_own_limit() -> None:
    assert source_budget(DataType.FLOAT16) == BUDGETS["fp16"]
    assert source_budget(DataType.BFLOAT16) == BUDGETS["bf16"]
    assert source_budget(DataType.FLOAT32) == source_budget(DataType.INT64) == 0
