"""View algebra: what reshaping, transposing and slicing do to a view, where no element has to move."""

from __future__ import annotations

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
    "permuted",
    "reshaped",
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


def reshaped(view: View, shape: Sequence[int]) -> View | None:
    """The same elements in row-major order with another shape; None where that cannot be said with strides."""
    shape = tuple(shape)
    assert math.prod(shape) == view.elements, f"cannot reshape {view.shape} to {shape}"
    if view.elements == 0:
        return replace(view, shape=shape, strides=contiguous_strides(shape))
    given = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n != 1]
    strides = [0] * len(shape)
    old, new = 0, 0
    while old < len(given) or new < len(shape):
        if new < len(shape) and shape[new] == 1:
            new += 1
            continue
        old_end, new_end = old + 1, new + 1
        old_size, new_size = given[old][0], shape[new]
        while old_size != new_size:
            if old_size < new_size:
                old_size *= given[old_end][0]
                old_end += 1
            else:
                new_size *= shape[new_end]
                new_end += 1
        for axis in range(old, old_end - 1):  # the old axes of this block must lie one in another
            if given[axis][1] != given[axis + 1][0] * given[axis + 1][1]:
                return None
        step = given[old_end - 1][1]
        for axis in range(new_end - 1, new - 1, -1):
            strides[axis] = step
            step *= shape[axis]
        old, new = old_end, new_end
    for axis in range(len(shape) - 1, -1, -1):  # an axis of length 1 gets the stride that it would have if packed
        if shape[axis] == 1:
            inner = axis + 1
            strides[axis] = strides[inner] * shape[inner] if inner < len(shape) else 1
    return replace(view, shape=shape, strides=tuple(strides))


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
    """A view of a buffer of rows of ``inner`` elements, once its rows lie ``row_stride`` apart, the first at ``offset``.

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
