"""Operators that PyTorch's exporter has no translation for: written with others, they answer as eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import trine
from trine.errors import UnsupportedError
from trine.importers import decompositions_elementwise as elementwise
from trine.importers import decompositions_linalg as linalg
from trine.importers import decompositions_order as order
from trine.importers import decompositions_scatter as scatter

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


ELEMENTWISE: dict[str, Function] = {
    "rrelu": lambda x: nn.functional.rrelu(x, 0.1, 0.4),
    "rrelu_in_place": lambda x: nn.functional.rrelu_(x.clone()),
    "signbit": lambda x: x.signbit(),
    "copysign": lambda x: torch.copysign(x, x.flip(1)),
    "left_shift": lambda x: (x * 9).int() << (x > 0).int(),
    "right_shift": lambda x: (x * 9).long() >> (x > 0).long(),
    "complex_exp": lambda x: torch.view_as_real(torch.complex(x / 2, x).exp()),
    "lgamma": lambda x: x.lgamma(),
    "lgamma_in_place": lambda x: x.clone().lgamma_(),
    "digamma": lambda x: x.abs().add(0.1).digamma(),
    "erfinv": lambda x: x.tanh().erfinv(),
    "sum_of_booleans": lambda x: (x > 0) + (x < -1),
}

SCATTER: dict[str, Function] = {
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]), right=True, out_int32=True),
    "searchsorted": lambda x: torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), x),
    "searchsorted_in_rows": lambda x: torch.searchsorted(x.sort(-1)[0], x.flip(1), side="right"),
    "isin": lambda x: torch.isin(x.round(), torch.tensor([-1.0, 2.0])),
    "scatter_of_a_larger_source": lambda x: x.scatter(1, places(x)[:, :2], x + 1),
    "scatter_add_of_a_larger_source": lambda x: x.scatter_add(1, places(x)[:, :2], x),
    "scatter_mean": lambda x: x.scatter_reduce(1, places(x), x, "mean"),
    "scatter_mean_without_self": lambda x: x.scatter_reduce(1, places(x), x, "mean", include_self=False),
    "scatter_largest_in_place": lambda x: x.clone().scatter_reduce_(1, places(x), x * 2, "amax"),
    "index_reduce": lambda x: x.index_reduce(1, torch.tensor([0, 0, 2]), x[:, :3], "amin"),
    "take_along_dim": lambda x: torch.take_along_dim(x, x.argsort(1), 1),
    "take_along_dim_of_one_row": lambda x: x[:, :, :1].take_along_dim(places(x), dim=1),
}

LINALG: dict[str, Function] = {
    "inverse": lambda x: torch.linalg.inv(square(x)),
    "inverse_method": lambda x: square(x)[:, :3, :3].inverse(),
    "solve": lambda x: torch.linalg.solve(square(x), x),
    "solve_vector": lambda x: torch.linalg.solve(square(x), x[:, :, 0]),
    "solve_right": lambda x: torch.linalg.solve(square(x), x.mT, left=False),
    "slogdet": lambda x: tuple(torch.linalg.slogdet(square(x))),
    "cholesky": lambda x: torch.linalg.cholesky(square(x) @ square(x).mT),
    "solve_triangular": lambda x: torch.linalg.solve_triangular(square(x), x, upper=True),
    "solve_triangular_right": lambda x: torch.linalg.solve_triangular(square(x), x.mT, upper=False, left=False),
}


def places(x: torch.Tensor) -> torch.Tensor:
    """Rows of ``x``, some of them often, as many as it has numbers."""
    return (x.abs() * 3).long().clamp(max=x.shape[1] - 1)


def square(x: torch.Tensor) -> torch.Tensor:
    """Matrices that have a zero on the diagonal, so that a pivot is needed, and are far from singular."""
    return x[:, :, :5] / 4 + torch.eye(5).roll(1, 0) * 2


class Functions(nn.Module):
    """Each function's answers, by its name."""

    def __init__(self, functions: dict[str, Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {
            name: tuple(y) if isinstance(y := function(x), tuple) else y for name, function in self.functions.items()
        }


@pytest.mark.filterwarnings("ignore:index_reduce:UserWarning")
@pytest.mark.parametrize(
    "functions", [ORDER, ELEMENTWISE, SCATTER, LINALG], ids=["order", "elementwise", "scatter", "linalg"]
)
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


@pytest.mark.parametrize("name", ["lgamma", "digamma", "erfinv", "signbit"])
def test_special_functions_are_pytorchs_over_their_whole_range(name: str) -> None:
    ends = torch.tensor([0.0, -0.0, 1, 2, -1, -3, torch.inf, -torch.inf, torch.nan, 1e-6, 0.9999999, -0.9999999, 1e5])
    x = torch.cat([torch.linspace(-6, 30, 2001), torch.linspace(-1, 1, 2001), ends])
    want = getattr(torch, name)(x)
    torch.testing.assert_close(getattr(elementwise, name)(x), want, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("size", [1, 2, 7, linalg.LARGEST])
def test_small_linear_algebra_is_pytorchs(size: int) -> None:
    torch.manual_seed(size)
    a, b = torch.randn(3, size, size, dtype=torch.float64), torch.randn(3, size, 2, dtype=torch.float64)
    positive = a @ a.mT + torch.eye(size)
    torch.testing.assert_close(linalg.inverse(a), torch.linalg.inv(a))
    torch.testing.assert_close(linalg.solve(a, b), torch.linalg.solve(a, b))
    torch.testing.assert_close(linalg.cholesky(positive), torch.linalg.cholesky(positive))
    torch.testing.assert_close(linalg.cholesky(positive, upper=True), torch.linalg.cholesky(positive, upper=True))
    want = torch.linalg.solve_triangular(positive.tril(), b, upper=False)
    torch.testing.assert_close(linalg.solve_triangular(positive, b, upper=False), want)


def test_large_matrices_and_what_else_is_not_written_out_are_refused_by_name() -> None:
    module = Functions({"inverse": lambda x: x.inverse(), "q": lambda x: torch.linalg.qr(x)[0]})
    with pytest.raises(UnsupportedError, match=r"(?s)2 operator.*linalg_inv.*linalg_qr.*test_decompositions\.py"):
        trine.build(module, (torch.randn(2, 17, 17) + 9 * torch.eye(17),), tactics=("onnxruntime",))


@pytest.mark.parametrize("right", [False, True])
def test_nan_and_ties_lie_where_pytorch_puts_them(right: bool) -> None:
    x, boundaries = torch.tensor([torch.nan, -torch.inf, 0.0, 1, 2, torch.inf]), torch.tensor([0.0, 1, 1])
    assert torch.equal(scatter.bucketize(x, boundaries, right=right), torch.bucketize(x, boundaries, right=right))


@pytest.mark.parametrize("bounds", [(0, 0), (-1, 2)])
def test_histograms_are_pytorchs(bounds: tuple[float, float]) -> None:
    x = torch.tensor([-1.0, -0.5, 0, 0.25, 1, 1.9, 2, 5])
    assert torch.equal(scatter.histc(x, 6, *bounds), torch.histc(x, 6, *bounds))
