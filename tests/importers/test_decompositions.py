"""Operators that PyTorch's exporter has no translation for: written with others, they answer as eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import trine
from trine.errors import UnsupportedError
from trine.importers import decompositions_order as order

Function = Callable[[torch.Tensor], Any]

ORDER: dict[str, Function] = {
    "kthvalue": lambda x: x.kthvalue(3, -1),
    "kthvalue_keepdim": lambda x: torch.kthvalue(x, 2, 1, keepdim=True),
    "median": lambda x: x.median(1),
    "median_even": lambda x: x.median(-1, keepdim=True)[0],
    "median_of_all": lambda x: x * x.median(),
    "nanmedian": lambda x: x.log().nanmedian(-1)[0],
    "nanmedian_of_all": lambda x: x * x.log().nanmedian(),
    "cummax": lambda x: x.round().cummax(1),
    "cummin": lambda x: x.cummin(-1)[0],
    "cumprod": lambda x: x.cumprod(1),
}


class Functions(nn.Module):
    """Each function's answers, by its name."""

    def __init__(self, functions: dict[str, Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {
            name: tuple(y) if isinstance(y := function(x), tuple) else y for name, function in self.functions.items()
        }


@pytest.mark.parametrize("functions", [ORDER], ids=["order"])
def test_an_engine_answers_as_eager(functions: dict[str, Function]) -> None:
    module = Functions(functions)
    torch.manual_seed(0)
    engine = trine.build(module, (torch.randn(2, 5, 6),), tactics=("onnxruntime",))
    for batch in (1, 3):
        x = torch.randn(batch, 5, 6)
        torch.testing.assert_close(engine(x), module(x), rtol=1e-5, atol=1e-5, equal_nan=True)


SPECIAL = torch.tensor(
    [[3.0, torch.nan, 1, 2, torch.nan], [torch.nan] * 5, [2, 2, 1, 3, 3], [-torch.inf, 1, torch.inf, 0, 0]]
)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("x", [SPECIAL, SPECIAL[2], torch.tensor(3.0), torch.tensor([[5, 1, 3], [2, 2, 2]])])
def test_medians_are_pytorchs_also_with_nan_ties_and_ints(x: torch.Tensor, keepdim: bool) -> None:
    for ours, theirs in ((order.median, torch.median), (order.nanmedian, torch.nanmedian)):
        values, indices = ours(x, -1, keepdim)
        want = theirs(x, -1, keepdim)
        torch.testing.assert_close(values, want.values, equal_nan=True)
        assert indices.shape == want.indices.shape
        if x.dim():
            picked = x.gather(-1, indices if keepdim else indices.unsqueeze(-1))
            torch.testing.assert_close(picked if keepdim else picked.squeeze(-1), values, equal_nan=True)
    assert torch.equal(order.median_of_all(x).nan_to_num(7), x.median().nan_to_num(7))


@pytest.mark.parametrize("name", ["cummax", "cummin"])
@pytest.mark.parametrize("x", [SPECIAL, torch.tensor([4, 4, 1, 9, 9, 2, 0]), torch.tensor(2.0), torch.zeros(3, 1)])
def test_running_extremes_have_pytorchs_values_and_indices(name: str, x: torch.Tensor) -> None:
    ours = order.TABLE[getattr(torch.ops.aten, name).default]
    for dim in range(-1, max(x.dim(), 1)):
        values, indices = ours(x, dim)
        want = getattr(torch, name)(x, dim)
        torch.testing.assert_close(values, want.values, equal_nan=True, rtol=0, atol=0)
        assert torch.equal(indices, want.indices)


def test_running_products_of_ints_are_int64() -> None:
    x = torch.tensor([[2, 3, -4, 5, 1]], dtype=torch.int32)
    assert torch.equal(order.cumprod(x, 1), x.cumprod(1))


def test_what_an_open_length_rules_out_is_refused_by_name_and_line() -> None:
    module = Functions({"running": lambda x: x.cummax(1)[0]})
    with pytest.raises(UnsupportedError, match=r"aten\.cummax.*test_decompositions\.py.*x\.cummax\(1\)"):
        trine.build(module, (torch.randn(2, 5),), dynamic={"x": {1: (1, 5, 9)}}, tactics=("onnxruntime",))
