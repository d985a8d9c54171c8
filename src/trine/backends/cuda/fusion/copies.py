"""Copies of evenly spaced parts between two buffers become one copy with an axis more."""

from __future__ import annotations

import itertools
from dataclasses import replace

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import Pointwise, View

__all__ = ["merge_copies"]


def merge_copies(program: Program) -> None:
    """Before: copy x[0::2] -> y[0]; copy x[1::2] -> y[1]. After: one copy with an axis of 2 in front.

    Network layers that merge patches do this with four copies. Two that are alike are merged as long as there are any.
    Stays: what reads or writes other buffers; parts of other shapes; a caller's rows.
    """
    by_target: dict[object, list[int]] = {}
    for index, group in program.positions():
        if isinstance(group, Pointwise) and not group.by_rows and not group.zero_after and len(group.inputs) == 1:
            by_target.setdefault(group.y.buffer, []).append(index)
    for positions in by_target.values():
        while len(positions) > 1 and _merge_two(program, positions):
            pass


def _merge_two(program: Program, positions: list[int]) -> bool:
    for left, right in itertools.pairwise(positions):
        first, second = program.at(left), program.at(right)
        assert isinstance(first, Pointwise)
        assert isinstance(second, Pointwise)
        if not _alike(program, left, right, first, second):
            continue
        y, x = _with_axis(first.y, second.y), _with_axis(first.inputs[0], second.inputs[0])
        program.put(left, None)
        program.put(right, replace(second, name=first.name, y=y, inputs=(x,)))
        positions.remove(left)
        return True
    return False


def _alike(program: Program, left: int, right: int, first: Pointwise, second: Pointwise) -> bool:
    one, other = first.inputs[0], second.inputs[0]
    if first.expr != second.expr or one.buffer is not other.buffer:
        return False
    if (first.y.shape, first.y.strides, one.strides) != (second.y.shape, second.y.strides, other.strides):
        return False
    # Nobody may read the first part before the second is made.
    return not any(left < reader < right for reader in program.readers(first.y.buffer))


def _with_axis(first: View, second: View) -> View:
    """Both as one view of two, with a new axis in front of the others; the same element twice is a stride of 0."""
    return replace(
        first, shape=(2, *first.shape), strides=(second.offset - first.offset, *first.strides), offset=first.offset
    )
