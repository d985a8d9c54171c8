"""Opens up model-local functions, so that the other passes see what is inside."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from trine.passes.rewriting import Counted, all_nodes

__all__ = ["InlineFunctions"]


class InlineFunctions(ir.passes.InPlacePass):
    """Puts a function's nodes in the place of each call.

    Before: ``y = my.domain.Twice(x)``, with ``Twice(a) = Add(a, a)``.
    After: ``y = Add(x, x)``.

    Functions stay calls where they cannot be inlined: with operators that mean something else at the model's opset,
    called with a graph as an attribute or with too many inputs, or in a cycle.
    """

    def call(self, model: ir.Model) -> Counted:
        """Wraps onnx_ir's InlinePass, which raises on the cases that are left out here."""
        if not model.functions or _has_cycle(model):
            return Counted(model, False)
        before = _calls(model)
        for function in model.functions.values():
            _move_to_opset(function, model.opset_imports)
        kept = _not_inlinable(model)
        modified = common.InlinePass(criteria=lambda function: function.identifier() not in kept)(model).modified
        used = {node.op_identifier() for node in _every_node(model)}
        for unused in set(model.functions) - used:
            del model.functions[unused]
        return Counted(model, modified, max(int(modified), before - _calls(model)))


def _move_to_opset(function: ir.Function, opsets: dict[str, int]) -> None:
    """Takes the model's opset as the function's, if that is the same to each of its operators."""
    own = function.opset_imports.get("")
    wanted = opsets.get("", own)
    if own is None or wanted is None or own == wanted:
        return
    nodes = [node for node in function.all_nodes() if node.domain == ""]
    if all(_since(node.op_type, own) == _since(node.op_type, wanted) is not None for node in nodes):
        function.opset_imports[""] = wanted


def _since(op_type: str, opset: int) -> int | None:
    """The opset in which the operator got the meaning that it has at ``opset``; None if it has none."""
    if not onnx.defs.has(op_type, opset):
        return None
    return int(onnx.defs.get_schema(op_type, opset).since_version)


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


def _calls(model: ir.Model) -> int:
    return sum(node.op_identifier() in model.functions for node in all_nodes(model))


def _every_node(model: ir.Model) -> list[ir.Node]:
    return [*all_nodes(model), *(node for function in model.functions.values() for node in function.all_nodes())]


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
