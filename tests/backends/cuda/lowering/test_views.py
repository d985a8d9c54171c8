"""The view algebra, against NumPy on an array that holds its own indices."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trine.backends.cuda.groups import Buffer, View, contiguous_strides
from trine.backends.cuda.lowering.views import (
    broadcast,
    covers_buffer,
    dense,
    expressed_like,
    memory_order,
    merged,
    order_for,
    permuted,
    reshaped,
    shape_blocks,
    sliced,
    within_slice,
)

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=5).map(tuple)


def fresh(shape: tuple[int, ...]) -> View:
    return View(Buffer("x", "arena", "int64", math.prod(shape)), shape, contiguous_strides(shape))


def indices(view: View) -> np.ndarray:
    """Where each element of the view lies."""
    flat = np.arange(view.buffer.elements)
    strides = [stride * flat.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides)


def factored(data: st.DataObject, size: int) -> tuple[int, ...]:
    """A shape of that many elements."""
    shape = []
    while size > 1:
        part = data.draw(st.sampled_from([n for n in range(2, size + 1) if size % n == 0]))
        shape.append(part)
        size //= part
    if data.draw(st.booleans()):
        shape.insert(data.draw(st.integers(0, len(shape))), 1)
    return tuple(shape)


@given(st.data(), SHAPES)
def test_reshaped_is_what_numpy_does_or_none(data: st.DataObject, shape: tuple[int, ...]) -> None:
    view = permuted(fresh(shape), data.draw(st.permutations(range(len(shape)))))
    wanted = factored(data, view.elements)
    made = reshaped(view, wanted)
    if made is None:
        assert not view.contiguous
        copy = View(view.buffer, view.shape, contiguous_strides(view.shape))
        assert reshaped(copy, wanted) is not None
    else:
        np.testing.assert_array_equal(indices(made), indices(view).reshape(wanted))


@given(st.data(), SHAPES)
def test_a_copy_in_order_for_a_shape_takes_that_shape(data: st.DataObject, shape: tuple[int, ...]) -> None:
    view = permuted(fresh(shape), data.draw(st.permutations(range(len(shape)))))
    wanted = factored(data, view.elements)
    order = order_for(view, wanted)
    packed = fresh(tuple(view.shape[axis] for axis in order))
    copy = permuted(packed, [order.index(axis) for axis in range(len(order))])
    made = reshaped(copy, wanted)
    assert made is not None
    np.testing.assert_array_equal(indices(made), indices(copy).reshape(wanted))


@given(st.data(), SHAPES)
def test_memory_order_sorts_the_axes(data: st.DataObject, shape: tuple[int, ...]) -> None:
    view = permuted(fresh(shape), data.draw(st.permutations(range(len(shape)))))
    assert permuted(view, memory_order(view)).contiguous
    assert dense(view)
    assert covers_buffer(view)


@given(st.data(), SHAPES)
def test_expressed_like_reads_the_same_elements(data: st.DataObject, shape: tuple[int, ...]) -> None:
    """An operand of some pointwise work, with the axes of the product before it."""
    made = fresh(shape)
    order = data.draw(st.permutations(range(len(shape))))
    read = permuted(made, order)
    operand = fresh(tuple(n if data.draw(st.booleans()) else 1 for n in read.shape))
    spread = broadcast(operand, read.shape)
    turned = expressed_like(spread, read, made)
    if turned is not None:
        place = dict(zip(indices(read).ravel().tolist(), indices(spread).ravel().tolist(), strict=True))
        for at, element in zip(indices(made).ravel().tolist(), indices(turned).ravel().tolist(), strict=True):
            assert place[at] == element


@given(st.data())
def test_within_slice_moves_every_element(data: st.DataObject) -> None:
    rows, inner, wide = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6)), data.draw(st.integers(0, 3))
    start = data.draw(st.integers(0, wide))
    small = fresh((rows, inner))
    flat = reshaped(small, factored(data, rows * inner))
    assert flat is not None
    large = Buffer("large", "arena", "int64", rows * (inner + wide))
    moved = within_slice(flat, inner, inner + wide, start)
    if moved is not None:
        moved = View(large, moved.shape, moved.strides, moved.offset)
        at = indices(flat)
        np.testing.assert_array_equal(indices(moved), at // inner * (inner + wide) + at % inner + start)


def test_blocks_are_the_smallest() -> None:
    assert shape_blocks((2, 3, 4), (6, 2, 2)) == [([0, 1], [0]), ([2], [1, 2])]
    assert shape_blocks((1, 8, 1), (2, 4)) == [([1], [0, 1])]


def test_slices_and_merges() -> None:
    view = permuted(fresh((2, 5, 6, 4)), (0, 3, 1, 2))  # images, channels-last in memory
    part = sliced(view, 1, 1, 2)
    assert not dense(part)
    np.testing.assert_array_equal(indices(part), indices(view)[:, 1:3])
    pixels = merged(part, [(0, 2, 3), (1,)])
    assert pixels is not None
    assert pixels.shape == (60, 2)
    assert pixels.strides == (4, 1)
    assert merged(part, [(0,), (1, 2, 3)]) is None
