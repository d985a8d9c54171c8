"""Computes once what is computed twice."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from trine.passes.rewriting import Counted, forward

__all__ = ["MergeCommonSubexpressions"]

_RANDOM = frozenset(
    ["Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]
)
_ATTRIBUTE_BYTES = 4096  # larger tensors as attributes are not compared


class MergeCommonSubexpressions(ir.passes.InPlacePass):
    """Keeps the first of several nodes of the same operator, inputs and attributes.

    Before: ``a = Sigmoid(x); b = Sigmoid(x); y = Add(a, b)``.
    After: ``a = Sigmoid(x); y = Add(a, a)``.

    Stays: random operators; nodes with subgraphs; nodes of which both make outputs of the graph. Nodes in different
    graphs are never merged. onnx_ir has such a pass, but it leaves subgraphs alone and merges Bernoulli.
    """

    def call(self, model: ir.Model) -> Counted:
        """Visits each graph on its own, in topological order."""
        count = 0
        for graph in model.graphs():
            seen: dict[Any, ir.Node] = {}
            for node in graph:
                key = _key(node)
                if key is None:
                    continue
                first = seen.setdefault(key, node)
                if first is not node and _merge(node, first):
                    count += 1
        return Counted(model, bool(count), count)


def _merge(node: ir.Node, first: ir.Node) -> bool:
    if len(node.outputs) == 1:
        return forward(node, first.outputs[0])
    if any(out.is_graph_output() for out in node.outputs):
        return False
    for old, new in zip(node.outputs, first.outputs, strict=True):
        old.replace_all_uses_with(new)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    return True


def _key(node: ir.Node) -> Any:
    """Equal for nodes that compute the same; None for nodes that cannot be compared."""
    if node.domain not in ("", "ai.onnx.ml") or node.op_type in _RANDOM or not node.inputs:
        return None
    attributes: list[tuple[str, int, str]] = []
    for name, attribute in sorted(node.attributes.items()):
        kind, value = attribute.type, attribute.value
        if attribute.is_ref():
            return None
        if kind in (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING):
            attributes.append((name, int(kind), repr(value)))
        elif kind in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
            attributes.append((name, int(kind), repr(tuple(value))))
        elif kind == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype == ir.DataType.STRING or tensor.nbytes > _ATTRIBUTE_BYTES:
                return None
            attributes.append((name, int(kind), repr((tensor.dtype, tuple(tensor.shape), tensor.tobytes()))))
        else:
            return None
    named = tuple(bool(out.name) for out in node.outputs)  # an unnamed output is one that is not computed
    return node.op_identifier(), named, tuple(id(value) for value in node.inputs), tuple(attributes)
