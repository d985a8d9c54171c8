"""What rewrites share: reading constants and shapes safely, and replacing nodes without breaking scopes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = [
    "FLOATS",
    "Counted",
    "NodePass",
    "add_initializer",
    "all_nodes",
    "axes_of",
    "constant",
    "forward",
    "int_attribute",
    "is_op",
    "is_private",
    "known_dims",
    "made_by",
    "only_used_once",
    "rank_of",
    "replace",
    "same_dims",
    "scalar",
]

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@dataclass
class Counted(ir.passes.PassResult):
    """A pass's result with the number of places that it changed."""

    count: int = 0


class NodePass(ir.passes.InPlacePass):
    """A pass that looks at each node once, in topological order, in the main graph and in every subgraph."""

    opset: int = 0  # of the standard operators in the model at hand

    @abstractmethod
    def rewrite(self, node: ir.Node) -> bool:
        """Rewrites the graph around ``node`` and returns True, or leaves everything alone and returns False."""

    def call(self, model: ir.Model) -> Counted:
        """Visits every node."""
        self.opset = model.opset_imports.get("", 1)
        count = 0
        for graph in model.graphs():
            for node in graph:
                if node.graph is graph and self.rewrite(node):
                    count += 1
        return Counted(model, bool(count), count)


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes of the main graph and of its subgraphs."""
    return iter(ir.traversal.RecursiveGraphIterator(model.graph))


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether ``node`` is one of these standard ONNX operators, with no attribute that refers to a function's."""
    return (
        node is not None
        and node.domain == ""
        and node.op_type in op_types
        and not any(attribute.is_ref() for attribute in node.attributes.values())
    )


def constant(value: ir.Value | None, limit: int | None = None) -> np.ndarray | None:
    """The elements of an initializer or Constant; None if it is neither, or has more than ``limit`` elements.

    Initializers that a caller may override (also graph inputs) are no constants.
    """
    if value is None or value.is_graph_input():
        return None
    producer = value.producer()
    if producer is None:
        tensor = value.const_value if value.is_initializer() else None
    elif is_op(producer, "Constant") and "value" in producer.attributes:
        tensor = producer.attributes["value"].as_tensor()
    else:
        return None
    if tensor is None or tensor.dtype == ir.DataType.STRING or (limit is not None and tensor.size > limit):
        return None
    return tensor.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The one element of a constant of size one, whatever its rank; None otherwise."""
    array = constant(value, limit=1)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def rank_of(value: ir.Value | None) -> int | None:
    """The number of dimensions, None if unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def known_dims(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape, if every dimension is a number."""
    if value is None or value.shape is None:
        return None
    dims = tuple(dim for dim in value.shape if isinstance(dim, int))
    return dims if len(dims) == len(value.shape) else None


def same_dims(one: ir.Value | None, other: ir.Value | None) -> bool:
    """Whether both have the same shape for certain: equal numbers, or the same symbol."""
    if one is None or other is None or one.shape is None or other.shape is None or len(one.shape) != len(other.shape):
        return False
    for a, b in zip(one.shape, other.shape, strict=True):
        if isinstance(a, int) != isinstance(b, int) or a != b:
            return False
        if isinstance(a, ir.SymbolicDim) and a.value is None:
            return False
    return True


def axes_of(node: ir.Node, position: int = 1) -> tuple[int, ...] | None:
    """Axes from the attribute ``axes`` (older opsets) or the constant input at ``position``; None if neither."""
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"].as_ints())
    if len(node.inputs) > position and (array := constant(node.inputs[position], limit=64)) is not None:
        return tuple(int(axis) for axis in array.reshape(-1))
    return None


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute, or its default."""
    attribute = node.attributes.get(name)
    return int(attribute.as_int()) if attribute is not None else default


def only_used_once(value: ir.Value) -> bool:
    """Whether the value feeds one input of one node, and is no output of its graph."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes ``value``, if it is one of these operators and nobody else needs what it makes."""
    if value is None or (node := value.producer()) is None or not is_op(node, *op_types):
        return None
    return node if only_used_once(value) and not any(out.uses() for out in node.outputs if out is not value) else None


def is_private(nodes: Sequence[ir.Node], root: ir.Node, kept: Iterable[ir.Value | None] = ()) -> bool:
    """Whether ``nodes`` can go, and ``root``, one of them, be replaced by a node with the inputs ``kept``.

    That is: nobody outside needs what they make, except what ``root`` makes, and none of them makes a kept input.
    """
    inside = set(nodes)
    return all(value is None or value.producer() not in inside for value in kept) and all(
        not out.is_graph_output() and all(user in inside for user, _ in out.uses())
        for node in nodes
        if node is not root
        for out in node.outputs
    )


def forward(node: ir.Node, value: ir.Value) -> bool:
    """Removes ``node``, whose first output equals ``value``, and points its users at ``value``.

    Returns False, with nothing changed, where the output's name or scope does not allow it.
    """
    old = node.outputs[0]
    graph = node.graph
    if graph is None or any(out.uses() or out.is_graph_output() for out in node.outputs[1:]):
        return False
    if old.is_graph_output():
        producer = value.producer()
        if producer is None or producer.graph is not graph or value.is_graph_output():
            return False
        if sum(out is old for out in graph.outputs) > 1:
            return False
        name, shape, kind = old.name, old.shape, old.type
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        value.name = name
        value.shape = shape if shape is not None else value.shape
        value.type = kind if kind is not None else value.type
        return True
    old.replace_all_uses_with(value)
    graph.remove(node, safe=True)
    return True


def replace(
    root: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | Iterable[ir.Attr] = (),
    *,
    absorbed: Iterable[ir.Node] = (),
    domain: str = "",
) -> ir.Node:
    """Puts one node in the place of ``root`` and of the nodes in ``absorbed`` that feed only it.

    ``root`` has one output, whose name, type and shape the new node takes over, also as a graph output.
    The caller has checked that nobody else needs what the absorbed nodes make.
    """
    graph = root.graph
    assert graph is not None
    given = list(ir.convenience.convert_attributes(attributes) if isinstance(attributes, Mapping) else attributes)
    made = ir.Node(domain, op_type, list(inputs), given, name=root.name, metadata_props=dict(root.metadata_props))
    old, new = root.outputs[0], made.outputs[0]
    new.type, new.shape, new.name = old.type, old.shape, old.name
    graph.insert_before(root, made)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    dying = [root, *absorbed]
    graph.remove(dying, safe=True)
    return made


def add_initializer(node: ir.Node, name: str, array: np.ndarray | ir.TensorProtocol) -> ir.Value:
    """A new constant in the graph of ``node``, called ``name`` or, where that is taken, ``name_2`` and so on."""
    graph = node.graph
    assert graph is not None
    unique, number = name, 1
    while unique in graph.initializers:
        number += 1
        unique = f"{name}_{number}"
    tensor = ir.tensor(array) if isinstance(array, np.ndarray) else array
    value = ir.Value(name=unique, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)  # type: ignore[arg-type]
    graph.register_initializer(value)
    return value
