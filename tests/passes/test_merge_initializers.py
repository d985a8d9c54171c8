from __future__ import annotations

import numpy as np
from pass_checks import build, optimised, unchanged

from trine.passes.merge_initializers import MergeInitializers
from trine.passes.remove_dead_nodes import RemoveDeadNodes

X = "float[n, 4] x"
BODY = "p = Add(x, a)\n q = Mul(p, b)\n y = Sub(q, c)"


def test_merges_equal_small_constants() -> None:
    ones = np.ones(4, np.float32)
    proto = build(X, "float[n, 4] y", BODY, a=ones, b=ones.copy(), c=2 * ones)
    assert len(optimised(proto, MergeInitializers(), RemoveDeadNodes()).graph.initializers) == 2


def test_refuses_other_shapes_types_and_large_ones() -> None:
    zero = np.zeros(1, np.float32)
    assert unchanged(build(X, "float[n, 4] y", BODY, a=zero, b=zero.reshape(1, 1), c=zero[0]), MergeInitializers())
    body, large = "p = Add(x, a)\n y = Mul(p, b)", np.ones(32, np.float32)
    assert unchanged(build("float[n, 32] x", "float[n, 32] y", body, a=large, b=large), MergeInitializers())


def test_refuses_what_a_caller_may_override() -> None:
    ones = np.ones(4, np.float32)
    proto = build(f"{X}, float[4] a", "float[n, 4] y", "p = Add(x, a)\n y = Mul(p, b)", a=ones, b=ones)
    assert unchanged(proto, MergeInitializers())
