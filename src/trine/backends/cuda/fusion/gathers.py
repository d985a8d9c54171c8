"""Copies of copies become one gather: rolled, padded and partitioned images, rearranged at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import Buffer, GatherRows, Group, Pointwise, View
from trine.backends.cuda.lowering.views import covers_buffer, expressed_like

__all__ = ["fuse_gathers"]

_SHORTEST_ROW = 16  # elements that lie together: fewer, and loads by index are slower than strided copies
_UNWRITTEN = -2
_ZERO = -1


def fuse_gathers(program: Program) -> None:
    """Before: four copies roll x into r, one copies r into windows w. After: GatherRows(x, index) -> w.

    What a copy after that adds to it becomes the residual. Stays: single copies; buffers that others read or write in
    between; what is not made of whole rows; images that are not all rearranged alike.
    """
    last_writers = {group.y.buffer: index for index, group in program.positions() if _moves(group)}
    for buffer, index in reversed(last_writers.items()):
        if program.at(index) is not None and all(_moves(program.at(each)) for each in program.writers(buffer)):
            _gather(program, buffer, index)
    for index, group in program.positions():
        if isinstance(group, Pointwise):
            _take_residual(program, index, group)


def _moves(group: Group | None) -> bool:
    """Whether a group only copies, or only writes zeros."""
    if not isinstance(group, Pointwise) or group.by_rows or group.zero_after or group.y.buffer.kind != "arena":
        return False
    if not group.inputs:
        return group.expr.op == "constant" and group.expr.value == 0
    view = group.inputs[0]
    return group.expr.op == "input" and view.buffer.kind == "arena" and view.dtype == group.y.dtype


@dataclass
class _Chain:
    """Copies, in order, through buffers that nobody else reads, from one root."""

    copies: list[int] = field(default_factory=list)
    inner: set[Buffer] = field(default_factory=set)
    roots: set[Buffer] = field(default_factory=set)


def _gather(program: Program, target: Buffer, index: int) -> None:
    chain = _Chain()
    _collect(program, target, chain)
    chain.copies.sort()
    if len(chain.roots) != 1 or len(chain.copies) < 2:
        return
    root = chain.roots.pop()
    if root is target or any(each > chain.copies[0] for each in program.writers(root)):
        return
    groups = [program.at(each) for each in chain.copies]
    copies = [group for group in groups if isinstance(group, Pointwise)]
    unit = _row_length(copies)
    if unit < _SHORTEST_ROW or root.elements % unit or target.elements % unit:
        return
    rows = _simulated(copies, root, target, unit)
    if (rows == _UNWRITTEN).any():
        return
    count, order = _per_image(rows, root.elements // unit, {group.y.shape[0] for group in copies})
    length = root.elements // unit // count
    x = View(root, (count, length, unit), (length * unit, unit, 1))
    y = View(target, (count, len(order), unit), (len(order) * unit, unit, 1))
    index_view = _weight(order, f"{copies[-1].name} rows")
    for each in chain.copies:
        program.put(each, None)
    program.put(index, GatherRows(name=" + ".join(dict.fromkeys(c.name for c in copies)), y=y, x=x, index=index_view))


def _collect(program: Program, buffer: Buffer, chain: _Chain) -> None:
    """The copies that make a buffer, and those that make what they read, where only they read it."""
    writers = program.writers(buffer)
    chain.copies.extend(writers)
    chain.inner.add(buffer)
    sources = {
        group.inputs[0].buffer for each in writers if isinstance(group := program.at(each), Pointwise) and group.inputs
    }
    for source in sources:
        mine = set(program.readers(source)) <= set(chain.copies)
        if source not in chain.inner and mine and all(_moves(program.at(each)) for each in program.writers(source)):
            _collect(program, source, chain)
        elif source not in chain.inner:
            chain.roots.add(source)


def _row_length(copies: list[Pointwise]) -> int:
    """How many elements always stay together: they are contiguous on both sides of every copy."""
    unit = 0
    for group in copies:
        views = [group.y, *group.inputs]
        runs = [
            axis
            for axis in range(len(group.y.shape))
            if group.y.shape[axis] != 1 and all(view.strides[axis] == 1 for view in views)
        ]
        if len(runs) != 1:
            return 0
        others = [
            abs(view.strides[axis])
            for view in views
            for axis in range(len(view.shape))
            if axis != runs[0] and view.shape[axis] != 1
        ]
        unit = math.gcd(unit, group.y.shape[runs[0]], *others, *(view.offset for view in views))
    return unit


def _simulated(copies: list[Pointwise], root: Buffer, target: Buffer, unit: int) -> np.ndarray:
    """The root's row that each row of the target is, or _ZERO."""
    maps: dict[Buffer, np.ndarray] = {root: np.arange(root.elements // unit)}
    for group in copies:
        made = maps.setdefault(group.y.buffer, np.full(group.y.buffer.elements // unit, _UNWRITTEN))
        window = _rows(group.y, made, unit)
        window[...] = _rows(group.inputs[0], maps[group.inputs[0].buffer], unit) if group.inputs else _ZERO
    return maps[target]


def _rows(view: View, rows: np.ndarray, unit: int) -> np.ndarray:
    """A view in units of rows, over an array of one number for each row of the buffer."""
    shape = [length // unit if stride == 1 else length for length, stride in zip(view.shape, view.strides, strict=True)]
    strides = [
        (1 if stride == 1 else stride // unit) * rows.itemsize if length != 1 else 0
        for length, stride in zip(shape, view.strides, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(rows[view.offset // unit :], shape, strides)


def _per_image(rows: np.ndarray, length: int, candidates: set[int]) -> tuple[int, np.ndarray]:
    """The number of images and the index for one, if all are rearranged alike; or 1 and the index for all together."""
    for images in sorted(candidates, reverse=True):
        if len(rows) % images or length % images:
            continue
        each = rows.reshape(images, -1)
        shifted = np.where(each >= 0, each - np.arange(images)[:, None] * (length // images), each)
        if (shifted == shifted[0]).all() and shifted[0].max(initial=0) < length // images:
            return images, shifted[0]
    return 1, rows


def _weight(index: np.ndarray, name: str) -> View:
    data = index.astype(np.int32)
    return View(Buffer(name, "weight", "int32", data.size, data), (data.size,), (1,))


def _take_residual(program: Program, index: int, group: Pointwise) -> None:
    """A sum with what was gathered, the only use of it."""
    if group.by_rows or group.expr.op != "add" or len(group.inputs) != 2 or group.y.buffer.kind != "arena":
        return
    if {each.op for each in group.expr.args} != {"input"} or not covers_buffer(group.y):
        return
    for position in (0, 1):
        given, other = group.inputs[position], group.inputs[1 - position]
        found = program.only_writer(given)
        if found is None or not isinstance(found[1], GatherRows) or not program.only_reader(given.buffer, index):
            continue
        gather = found[1]
        if gather.residual is not None or not covers_buffer(given) or given.dtype != group.y.dtype:
            continue
        residual = expressed_like(other, given, gather.y)
        y = expressed_like(group.y, given, gather.y)
        if residual is None or y is None or residual.strides[2] != 1 or y.strides[2] != 1 or other.dtype != given.dtype:
            continue
        program.put(found[0], None)
        program.put(index, replace(gather, name=f"{gather.name} + {group.name}", y=y, residual=residual))
        return
