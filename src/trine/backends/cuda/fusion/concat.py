"""Copies into parts of a concatenated buffer go away where the producer can write there itself."""

from __future__ import annotations

from dataclasses import replace

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import (
    Buffer,
    Conv,
    DepthwiseConv,
    Gemm,
    Group,
    Pointwise,
    Pool,
    Recurrence,
    View,
    with_views,
)
from trine.backends.cuda.lowering.views import covers_buffer, memory_order, within_slice

__all__ = ["write_through"]

_STRIDED_OUTPUT = (Conv, DepthwiseConv, Gemm, Pool, Pointwise, Recurrence)


def write_through(program: Program) -> None:
    """Before: Conv -> t; copy t into a part of c. After: Conv writes the part, and whoever read t reads it there.

    Stays: copies of what is not a whole buffer; producers that need a packed output; readers whose axes run across the
    ends of the part's rows.
    """
    for index, group in program.positions():
        if isinstance(group, Pointwise) and group.expr.op == "input" and not group.by_rows:
            _through(program, index, group)


def _through(program: Program, index: int, copy: Pointwise) -> None:
    source, target = copy.inputs[0], copy.y
    found = program.only_writer(source)
    if found is None or not isinstance(found[1], _STRIDED_OUTPUT) or target.buffer.kind != "arena":
        return
    if source.dtype != target.dtype or not covers_buffer(source):
        return
    if isinstance(found[1], DepthwiseConv) and found[1].sums is not None and not covers_buffer(found[1].y):
        return
    if _filled_between(program, target.buffer, found[0], index):
        return
    part = _as_part(source, target)
    if part is None:
        return
    inner, row_stride, offset = part
    changed = {}
    for position in {found[0], *program.readers(source.buffer)} - {index}:
        group = program.at(position)
        moved = _moved(group, source.buffer, target.buffer, inner, row_stride, offset)
        if moved is None:
            return
        changed[position] = moved
    program.put(index, None)
    for position, each in changed.items():
        program.put(position, each)


def _filled_between(program: Program, buffer: Buffer, first: int, last: int) -> bool:
    """Whether the whole buffer is written between two positions, as padding is before what it surrounds."""
    between = [program.at(each) for each in program.writers(buffer) if first < each < last]
    return any(covers_buffer(view) for group in between if group is not None for view in group.written())


def _as_part(source: View, target: View) -> tuple[int, int, int] | None:
    """How the rows of the packed source lie in the target: their length, how far apart, where the first starts."""
    order = memory_order(source)
    lengths = [source.shape[axis] for axis in order]
    strides = [target.strides[axis] for axis in order]
    inner, axis = 1, len(order) - 1
    while axis >= 0 and (lengths[axis] == 1 or strides[axis] == inner):
        inner *= lengths[axis]
        axis -= 1
    row_stride = strides[axis] if axis >= 0 else inner
    step = row_stride
    while axis >= 0:
        if lengths[axis] != 1 and strides[axis] != step:
            return None
        step *= lengths[axis]
        axis -= 1
    return inner, row_stride, target.offset


def _moved(
    group: Group | None, source: Buffer, target: Buffer, inner: int, row_stride: int, offset: int
) -> Group | None:
    failed = []

    def change(view: View) -> View:
        if view.buffer is not source:
            return view
        found = within_slice(view, inner, row_stride, offset)
        if found is None:
            failed.append(view)
            return view
        return replace(found, buffer=target)

    moved: Group = with_views(group, change)
    return None if failed else moved
