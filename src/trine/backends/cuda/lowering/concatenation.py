"""Concat. Networks that concatenate the same values again and again (DenseNet) share one buffer for all of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from trine.backends.cuda.groups import Pointwise, View
from trine.backends.cuda.lowering.state import SAME, CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.views import memory_order, sliced

__all__ = ["Families", "Family", "find_families", "lower_concat"]


@dataclass(eq=False)
class Family:
    """Concatenations along one axis, each of which starts with all of the one before: ``parts`` of the longest."""

    axis: int
    parts: tuple[ir.Value, ...]
    buffer: View | None = None
    filled: int = 0  # how many of the parts have their copies
    starts: list[int] = field(default_factory=list)  # where each part starts, along the axis


Families = dict[ir.Node, tuple[Family, int]]  # a Concat's family, and how many of the parts are its own


def find_families(nodes: Iterable[ir.Node]) -> Families:
    """Which Concats of ``nodes`` are the beginning of a later one. Concats of Concats are taken apart first."""
    pieces: dict[ir.Node, tuple[ir.Value, ...]] = {}
    axes: dict[ir.Node, int] = {}
    for node in nodes:
        if node.op_type != "Concat" or node.domain or node.outputs[0].shape is None:
            continue
        axes[node] = node.attributes["axis"].as_int() % len(node.outputs[0].shape)
        flat: list[ir.Value] = []
        for position, value in enumerate(node.inputs):
            assert value is not None
            inner = value.producer()
            # Only the first operand: its buffer can grow at the end, and it is no longer than this one.
            if position == 0 and inner in pieces and axes[inner] == axes[node]:
                flat.extend(pieces[inner])
            else:
                flat.append(value)
        pieces[node] = tuple(flat)
    families: Families = {}
    for node in reversed(list(pieces)):
        parts = pieces[node]
        for family in {id(each): each for each, _ in families.values()}.values():
            if family.axis == axes[node] and family.parts[: len(parts)] == parts:
                families[node] = (family, len(parts))
                break
        else:
            families[node] = (Family(axes[node], parts), len(parts))
    return families


def lower_concat(lowering: Lowering, node: ir.Node, families: Families) -> list[View]:
    """Copies into the parts of one buffer; ``fusion`` lets the producers write there, where they can."""
    views = [lowering.view(node, position) for position in range(len(node.inputs))]
    axis = node.attributes["axis"].as_int() % len(views[0].shape)
    family, count = families.get(node, (None, 0))
    if family is not None:
        known = [_length(lowering, value, axis) for value in family.parts]
        if None not in known:
            return [_grown(lowering, family, count, [int(each or 0) for each in known])]
    shape = list(views[0].shape)
    shape[axis] = sum(view.shape[axis] for view in views)
    largest = max(views, key=lambda view: view.elements)
    y = lowering.new(shape, views[0].dtype, memory_order(largest))
    start = 0
    for view in views:
        part = sliced(y, axis, start, view.shape[axis])
        lowering.emit(Pointwise(name=f"{lowering.name} copy", y=part, inputs=(view,), expr=SAME))
        start += view.shape[axis]
    return [y]


def _grown(lowering: Lowering, family: Family, count: int, lengths: list[int]) -> View:
    axis = family.axis
    parts = [_view(lowering, value) for value in family.parts[:count]]
    if family.buffer is None:
        shape = list(parts[0].shape)
        shape[axis] = sum(lengths)
        largest = max(parts, key=lambda view: view.elements)
        family.buffer = lowering.new(shape, parts[0].dtype, memory_order(largest))
    for position in range(family.filled, count):
        target = sliced(family.buffer, axis, sum(lengths[:position]), lengths[position])
        lowering.emit(Pointwise(name=f"{lowering.name} copy", y=target, inputs=(parts[position],), expr=SAME))
    family.filled = max(family.filled, count)
    return sliced(family.buffer, axis, 0, sum(lengths[:count]))


def _view(lowering: Lowering, value: ir.Value) -> View:
    found = lowering.of(value)
    return found if isinstance(found, View) else lowering.weight(found, value.name or "constant")


def _length(lowering: Lowering, value: ir.Value, axis: int) -> int | None:
    """The length along an axis, from what was lowered or from the graph; None where it is not known yet."""
    if value in lowering.values:
        return lowering.values[value].shape[axis]
    dim = None if value.shape is None else value.shape[axis]
    return dim if isinstance(dim, int) else None


def check_parts(node: ir.Node, views: list[View]) -> None:
    """Raise CannotLowerError where element types differ."""
    kinds = {view.dtype for view in views}
    if len(kinds) > 1:
        raise CannotLowerError(f"parts of different types: {sorted(kinds)} ({value_name(node, 0)}, ...)")
