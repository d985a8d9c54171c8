"""Axes that are products of others: what a reshape joins and a later one takes apart again never has to be copied.

PyTorch's attention joins batch and heads to one axis, turns it around, and splits it. No stride describes that axis,
but the two that it consists of have one each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trine.backends.cuda.groups import View
from trine.backends.cuda.lowering.views import permuted, reshaped

__all__ = ["Factored", "factored", "plain", "refactored", "transposed"]


@dataclass(frozen=True)
class Factored:
    """A tensor whose axis i consists of ``counts[i]`` consecutive axes of ``base``, in row-major order."""

    base: View
    counts: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the tensor's own axes."""
        return tuple(math.prod(self.base.shape[axis] for axis in block) for block in self.blocks)

    @property
    def blocks(self) -> list[list[int]]:
        """The base's axes of each axis."""
        starts = [sum(self.counts[:index]) for index in range(len(self.counts))]
        return [list(range(start, start + count)) for start, count in zip(starts, self.counts, strict=True)]


def factored(view: View) -> Factored:
    """Every axis by itself."""
    return Factored(view, (1,) * len(view.shape))


def plain(tensor: Factored) -> View | None:
    """The tensor as a view, if every axis has one stride."""
    return reshaped(tensor.base, tensor.shape)


def transposed(tensor: Factored, order: Sequence[int]) -> Factored:
    """The axes in another order."""
    blocks = tensor.blocks
    base = permuted(tensor.base, [axis for each in order for axis in blocks[each]])
    return Factored(base, tuple(tensor.counts[each] for each in order))


def refactored(tensor: Factored, shape: Sequence[int]) -> Factored | None:
    """Another shape of as many elements; None where a new axis ends inside of a factor that does not divide there."""
    left = _joined(tensor.base)
    lengths: list[int] = []
    strides: list[int] = []
    counts: list[int] = []
    for wanted in shape:
        count = 0
        while wanted != 1:
            length, stride = left[0]
            if wanted % length == 0:
                left.pop(0)
            elif length % wanted == 0:
                left[0] = (length // wanted, stride)
                length, stride = wanted, stride * (length // wanted)
            else:
                return None
            lengths.append(length)
            strides.append(stride)
            wanted //= length
            count += 1
        if count == 0:
            lengths.append(1)
            strides.append(0)
            count = 1
        counts.append(count)
    return Factored(replace(tensor.base, shape=tuple(lengths), strides=tuple(strides)), tuple(counts))


def _joined(view: View) -> list[tuple[int, int]]:
    """Lengths and strides, neighbours joined where one stride says both; no axis of length 1."""
    joined: list[tuple[int, int]] = []
    for length, stride in zip(view.shape, view.strides, strict=True):
        if length == 1:
            continue
        if joined and joined[-1][1] == length * stride:
            joined[-1] = (joined[-1][0] * length, stride)
        else:
            joined.append((length, stride))
    return joined
