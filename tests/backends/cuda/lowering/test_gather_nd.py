"""GatherND beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from backends.cuda.interpret import check_group
from backends.cuda.lowered import agrees, kinds, lowered
from pass_checks import build

from trine.backends.cuda.groups import GatherRows
from trine.backends.cuda.kernels import gather_rows
from trine.backends.cuda.target import target_named
from trine.errors import UnsupportedError

INDICES = np.array([[[0, 1], [2, 3]], [[-1, -2], [0, 0]], [[1, 1], [1, 1]]], np.int64)


def test_whole_rows_and_single_elements() -> None:
    """``feed_for`` gives three rows, so that the first axis may be indexed too."""
    assert kinds(agrees(build("float[n,4,5] x", "float y", "y = GatherND(x, i)", i=INDICES)))["GatherRows"] == 1
    deep = np.concatenate([INDICES, INDICES[..., :1]], axis=-1)
    agrees(build("float[n,4,5] x", "float y", "y = GatherND(x, i)", i=deep))


def test_behind_a_transpose() -> None:
    agrees(build("float[n,4,5] x", "float y", "t = Transpose<perm = [0, 2, 1]>(x)\ny = GatherND(t, i)", i=INDICES))


def test_the_same_for_each_of_the_batch() -> None:
    i = np.repeat(INDICES[None, :, 0], 3, axis=0)
    agrees(build("float[n,4,5] x", "float y", "y = GatherND<batch_dims = 1>(x, i)", i=i))
    i[1, 0, 0] = 3
    with pytest.raises(UnsupportedError, match="indices that differ"):
        lowered(build("float[n,4,5] x", "float y", "y = GatherND<batch_dims = 1>(x, i)", i=i))


def test_integers_are_left_to_others() -> None:
    with pytest.raises(UnsupportedError, match="only floats are gathered"):
        lowered(build("int64[n,4,5] x", "int64 y", "y = GatherND(x, i)", i=INDICES))


def test_kernels_take_it() -> None:
    target = target_named("sm_90")
    (tactic,) = gather_rows.TACTICS
    made = lowered(build("float[n,4,5] x", "float y", "y = GatherND(x, i)", i=INDICES))
    (group,) = [each for each in made.groups if isinstance(each, GatherRows)]
    check_group(tactic, group, target, tactic.configurations(group, target)[0], rtol=0, atol=0)
