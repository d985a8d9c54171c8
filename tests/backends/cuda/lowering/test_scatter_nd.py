"""ScatterND beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from backends.cuda.lowered import agrees, kinds, lowered
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_checks import build

from trine.errors import UnsupportedError

LINE = "t = Transpose<perm = [1, 0, 2]>(x)\ns = ScatterND(t, i, u)\ny = Transpose<perm = [1, 0, 2]>(s)"


def along_axis_1(*rows: int) -> np.ndarray:
    return np.array(rows, np.int64)[:, None]


@pytest.mark.parametrize("rows", [(1, 2), (0,), (4,), (0, 1, 2, 3), (-1, 0), (3, 1)])
def test_slices(rows: tuple[int, ...]) -> None:
    """``x[:, rows] = u``: ``feed_for`` gives three rows."""
    u = np.random.default_rng(0).standard_normal((len(rows), 3, 4)).astype(np.float32)
    made = agrees(build("float[n,5,4] x", "float y", LINE, i=along_axis_1(*rows), u=u))
    assert "GatherRows" not in kinds(made)


def test_all_of_it_is_what_is_assigned() -> None:
    """``x[:] += r``, where nothing of x itself is left."""
    body = "u = Add(x, r)\ns = ScatterND(x, i, u)\ny = Relu(s)"
    made = agrees(build("float[n,4,5] x, float[n,4,5] r", "float y", body, i=along_axis_1(0, 1, 2)))
    assert [type(group).__name__ for group in made.groups] == ["Pointwise"]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_places(data: st.DataObject) -> None:
    """Distinct ones: of others ONNX does not say which counts."""
    places = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), min_size=1, max_size=18, unique=True))
    i = np.array(places, np.int64)
    u = np.random.default_rng(len(places)).standard_normal((len(places), 2)).astype(np.float32)
    agrees(build("float[n,6,2] x", "float y", "y = ScatterND(x, i, u)", i=i, u=u))


def test_many_places_are_gathered() -> None:
    i = np.array([[r, c] for r in range(3) for c in (0, 2, 4)], np.int64)
    u = np.arange(18, dtype=np.float32).reshape(9, 2)
    made = agrees(build("float[n,6,2] x", "float y", "y = ScatterND(x, i, u)", i=i, u=u))
    assert kinds(made)["GatherRows"] == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('y = ScatterND<reduction = "add">(x, i, u)', "reduction 'add'; only 'none'"),
        (
            "j = ArgMax<axis = 1, keepdims = 0>(x)\nk = Unsqueeze(j, e)\ny = ScatterND(x, k, u)",
            "has no kernels|computed",
        ),
    ],
)
def test_refusals(body: str, text: str) -> None:
    u = np.ones((3, 5), np.float32)
    with pytest.raises(UnsupportedError, match=text):
        lowered(build("float[n,5] x", "float y", body, i=along_axis_1(0, 1, 2), u=u, e=np.array([1], np.int64)))
