from __future__ import annotations

import numpy as np
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.remove_dead_nodes import RemoveDeadNodes

X, Y = "float[n, 4] x", "float[n, 4] y"


def test_removes_chains_and_constants() -> None:
    body = "a = Exp(x)\n b = Mul(a, w)\n y = Relu(x)"
    model = optimised(build(X, Y, body, w=np.ones(4, np.float32)), RemoveDeadNodes())
    assert op_types(model) == ["Relu"]
    assert not model.graph.initializers


def test_removes_outputs_that_nobody_uses() -> None:
    model = optimised(build(X, Y, "y, mask = Dropout(x)"), RemoveDeadNodes())
    (node,) = model.graph
    assert len(node.outputs) == 1


def test_keeps_unused_inputs_and_what_branches_use() -> None:
    body = """
        a = Exp(x)
        c = ReduceSum<keepdims = 0>(x)
        t = Cast<to = 9>(c)
        y = If(t) <
            then_branch = yes () => (float[n, 4] p) { p = Neg(a) },
            else_branch = no () => (float[n, 4] q) { q = Neg(x) }
        >
    """
    assert unchanged(build(f"{X}, float[n] unused", Y, body), RemoveDeadNodes())
