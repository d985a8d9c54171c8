"""View algebra: what reshaping, transposing and slicing do to a view, where no element has to move."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from trine.backends.cuda.groups import View, contiguous_strides

__all__ = [
    "broadcast",
    "covers_buffer",
    "dense",
    "expressed_like",
    "memory_order",
    "merged",
    "order_for",
    "permuted",
    "reshaped",
    "shape_blocks",
    "sliced",
    "within_slice",
]


def permuted(view: View, order: Sequence[int]) -> View:
    """The axes in another order."""
    return replace(
        view, shape=tuple(view.shape[axis] for axis in order), strides=tuple(view.strides[axis] for axis in order)
    )


def sliced(view: View, axis: int, start: int, count: int, step: int = 1) -> View:
    """``count`` elements of one axis from ``start`` on, every ``step``-th."""
    shape, strides = list(view.shape), list(view.strides)
    offset = view.offset + start * strides[axis]
    shape[axis], strides[axis] = count, strides[axis] * step
    return replace(view, shape=tuple(shape), strides=tuple(strides), offset=offset)


def broadcast(view: View, shape: Sequence[int]) -> View:
    """NumPy's broadcasting: axes are matched from the right, those of length 1 repeat. The caller knows it fits."""
    missing = len(shape) - len(view.shape)
    strides = [0] * missing
    for length, stride, wanted in zip(view.shape, view.strides, shape[missing:], strict=True):
        assert length in (1, wanted), f"{view.shape} does not broadcast to {tuple(shape)}"
        strides.append(0 if length != wanted or wanted == 1 else stride)
    return replace(view, shape=tuple(shape), strides=tuple(strides))


def shape_blocks(given: Sequence[int], wanted: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Which axes of a shape become which axes of another: the smallest blocks of equal size, in order.

    Axes of length 1 are in no block.
    """
    old = [axis for axis, length in enumerate(given) if length != 1]
    new = [axis for axis, length in enumerate(wanted) if length != 1]
    blocks: list[tuple[list[int], list[int]]] = []
    while old and new:
        block = ([old.pop(0)], [new.pop(0)])
        left, right = given[block[0][0]], wanted[block[1][0]]
        while left != right:
            if left < right:
                block[0].append(old.pop(0))
                left *= given[block[0][-1]]
            else:
                block[1].append(new.pop(0))
                right *= wanted[block[1][-1]]
        blocks.append(block)
    return blocks


def reshaped(view: View, shape: Sequence[int]) -> View | None:
    """The same elements in row-major order with another shape; None where that cannot be said with strides."""
    shape = tuple(shape)
    assert math.prod(shape) == view.elements, f"cannot reshape {view.shape} to {shape}"
    if view.elements == 0:
        return replace(view, shape=shape, strides=contiguous_strides(shape))
    strides = [0] * len(shape)
    for old, new in shape_blocks(view.shape, shape):
        for outer, inner in itertools.pairwise(old):  # a block's old axes must lie one in another
            if view.strides[outer] != view.shape[inner] * view.strides[inner]:
                return None
        step = view.strides[old[-1]]
        for axis in reversed(new):
            strides[axis] = step
            step *= shape[axis]
    for axis in range(len(shape) - 1, -1, -1):  # an axis of length 1 gets the stride that it would have if packed
        if shape[axis] == 1:
            inner = axis + 1
            strides[axis] = strides[inner] * shape[inner] if inner < len(shape) else 1
    return replace(view, shape=shape, strides=tuple(strides))


def order_for(view: View, shape: Sequence[int]) -> list[int]:
    """The order in memory for a copy of ``view`` that can take another shape, and is as close to the view's as it gets.

    What reshaping keeps apart may lie in any order; what it joins has to lie row by row.
    """
    blocks = [old for old, _ in shape_blocks(view.shape, shape)]
    blocks.sort(key=lambda block: -min(abs(view.strides[axis]) for axis in block))
    return [
        *(axis for axis, length in enumerate(view.shape) if length == 1),
        *(axis for block in blocks for axis in block),
    ]


def merged(view: View, blocks: Sequence[Sequence[int]]) -> View | None:
    """The view with one axis for each block of axes, in that order; None where a block's axes do not lie together."""
    order = [axis for block in blocks for axis in block]
    shape = [math.prod(view.shape[axis] for axis in block) for block in blocks]
    return reshaped(permuted(view, order), shape)


def memory_order(view: View) -> list[int]:
    """The axes from the outermost in memory to the innermost. Axes of length 1 stay beside their left neighbour."""
    keys: list[tuple[float, int]] = []
    for axis, (length, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        key = float(-abs(stride)) if length != 1 else (keys[-1][0] if keys else -math.inf)
        keys.append((key, axis))
    return [axis for _, axis in sorted(keys)]


def dense(view: View) -> bool:
    """Whether the elements fill memory without gaps or repetition, in whatever order of the axes."""
    return permuted(view, memory_order(view)).contiguous


def covers_buffer(view: View) -> bool:
    """Whether every element of the buffer is in the view exactly once."""
    return view.offset == 0 and view.elements == view.buffer.elements and dense(view)


def expressed_like(view: View, given: View, wanted: View) -> View | None:
    """``view``, whose axes are those of ``given``, with the axes of ``wanted``.

    given and wanted hold the same elements of one buffer, both dense: an element of memory belongs to one index of
    each. None where the strides do not allow it. Repeated axes (stride 0) stay repeated.
    """
    if given.shape == wanted.shape and all(
        n == 1 or a == b for n, a, b in zip(given.shape, given.strides, wanted.strides, strict=True)
    ):
        return view
    order = memory_order(wanted)
    flat = reshaped(permuted(view, memory_order(given)), [wanted.shape[axis] for axis in order])
    if flat is None:
        return None
    back = [order.index(axis) for axis in range(len(order))]
    return permuted(flat, back)


def within_slice(view: View, inner: int, row_stride: int, offset: int) -> View | None:
    """A view of rows of ``inner`` elements, once the rows lie ``row_stride`` apart and the first at ``offset``.

    None where an axis of the view runs across the rows' ends.
    """
    strides, reach = [], view.offset % inner
    for length, stride in zip(view.shape, view.strides, strict=True):
        if length == 1 or stride == 0:
            strides.append(stride if stride < inner else stride // inner * row_stride)
        elif stride % inner == 0:
            strides.append(stride // inner * row_stride)
        else:
            strides.append(stride)
            reach += (length - 1) * stride
    if reach >= inner:
        return None
    start = offset + view.offset // inner * row_stride + view.offset % inner
    return replace(view, strides=tuple(strides), offset=start)
