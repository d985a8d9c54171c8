"""Opens up model-local functions, so that the other passes see what is inside."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from trine.passes.rewriting import Counted, all_nodes

__all__ = ["InlineFunctions"]


class InlineFunctions(ir.passes.InPlacePass):
    """Puts a function's nodes in the place of each call.

    Before: ``y = my.domain.Twice(x)``, with ``Twice(a) = Add(a, a)``.
    After: ``y = Add(x, x)``.

    Functions stay calls where they cannot be inlined: written for another opset than the model's, called with a
    graph as an attribute or with too many inputs, or in a cycle.
    """

    def call(self, model: ir.Model) -> Counted:
        """Wraps onnx_ir's InlinePass, which raises on the cases that are left out here."""
        if not model.functions:
            return Counted(model, False)
        kept = _not_inlinable(model)
        inliner = common.InlinePass(criteria=lambda function: function.identifier() not in kept)
        if _has_cycle(model):
            return Counted(model, False)
        inlined = inliner(model)
        common.NameFixPass()(model)
        for unused in set(model.functions) - _called(model):
            del model.functions[unused]
        return Counted(model, inlined.modified, sum(getattr(inlined, "id_count", {}).values()))


def _not_inlinable(model: ir.Model) -> set[ir.OperatorIdentifier]:
    kept = {
        name
        for name, function in model.functions.items()
        if any(
            model.opset_imports.get(domain, version) != version for domain, version in function.opset_imports.items()
        )
    }
    for node in _every_node(model):
        function = model.functions.get(node.op_identifier())
        if function is not None and (
            len(node.inputs) > len(function.inputs)
            or any(
                attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
                for attribute in (*node.attributes.values(), *function.attributes.values())
            )
        ):
            kept.add(node.op_identifier())
    return kept


def _every_node(model: ir.Model) -> list[ir.Node]:
    return [*all_nodes(model), *(node for function in model.functions.values() for node in function.all_nodes())]


def _called(model: ir.Model) -> set[ir.OperatorIdentifier]:
    return {node.op_identifier() for node in _every_node(model)} & set(model.functions)


def _has_cycle(model: ir.Model) -> bool:
    calls = {
        name: {node.op_identifier() for node in function.all_nodes()} & set(model.functions)
        for name, function in model.functions.items()
    }
    while calls:
        leaves = [name for name, callees in calls.items() if not callees & set(calls)]
        if not leaves:
            return True
        for name in leaves:
            del calls[name]
    return False
