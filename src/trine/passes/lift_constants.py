"""Turns Constant nodes into initializers, the one form of a constant that the other passes look for."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from trine.passes.rewriting import Counted, all_nodes, is_op

__all__ = ["LiftConstants"]


class LiftConstants(ir.passes.InPlacePass):
    """Moves every constant, also those of subgraphs, to the main graph's initializers.

    Before: ``w = Constant(value=[1, 2]); y = Add(x, w)``.
    After: initializer ``w = [1, 2]``; ``y = Add(x, w)``.

    A Constant stays that is a graph's output itself.
    """

    def call(self, model: ir.Model) -> Counted:
        """Wraps two passes of onnx_ir."""
        before = _constants(model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        lifted = common.LiftSubgraphInitializersToMainGraphPass()(model).modified
        count = before - _constants(model)
        return Counted(model, lifted or bool(count), count + lifted)


def _constants(model: ir.Model) -> int:
    return sum(is_op(node, "Constant") for node in all_nodes(model))
