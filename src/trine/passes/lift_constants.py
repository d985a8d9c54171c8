"""Turns Constant nodes into initializers, the one form of a constant that the other passes look for."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from trine.passes.rewriting import Counted, all_nodes, is_op

__all__ = ["LiftConstants"]

_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")


class LiftConstants(ir.passes.InPlacePass):
    """Moves every constant, also those of subgraphs, to the main graph's initializers.

    Before: ``w = Constant(value=[1, 2]); y = Add(x, w)``.
    After: initializer ``w = [1, 2]``; ``y = Add(x, w)``.

    A Constant stays that is a graph's output itself. Constants stay in subgraphs if any operator but If, Loop, Scan
    and SequenceMap has one: only of these is it known that backends let a subgraph see values outside.
    """

    def call(self, model: ir.Model) -> Counted:
        """Wraps two passes of onnx_ir."""
        before = _constants(model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        lifted = _branches_see_outside(model) and common.LiftSubgraphInitializersToMainGraphPass()(model).modified
        count = before - _constants(model)
        return Counted(model, lifted or bool(count), count + lifted)


def _constants(model: ir.Model) -> int:
    return sum(is_op(node, "Constant") for node in all_nodes(model))


def _branches_see_outside(model: ir.Model) -> bool:
    return all(
        node.domain == "" and node.op_type in _CONTROL_FLOW
        for node in all_nodes(model)
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    )
