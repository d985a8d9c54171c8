"""The fewest axes over which several views can be walked together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Axis", "collapse"]


@dataclass(frozen=True)
class Axis:
    """``strides``: in elements, one for each operand."""

    size: int
    strides: tuple[int, ...]

    @property
    def repeats(self) -> bool:
        """Whether some operand is the same all along it."""
        return 0 in self.strides


def collapse(
    shape: Sequence[int], strides: Sequence[Sequence[int]], first_stays: bool = False, last_stays: bool = False
) -> tuple[Axis, ...]:
    """Axes of ``shape``, outermost first, without those of length 1, in the order of operand 0's memory, and with each
    two merged that one index can walk in every operand.

    strides: for each operand, one for each axis of ``shape``. first_stays: axis 0 stays outermost (others may merge
    into it); last_stays: the last axis stays innermost, for itself, even if its length is 1.
    """
    axes = [Axis(size, tuple(each[i] for each in strides)) for i, size in enumerate(shape)]
    tail = [axes.pop()] if last_stays else []
    head = [axes.pop(0)] if first_stays and axes else []
    axes.sort(key=lambda axis: -axis.strides[0])
    merged: list[Axis] = []
    for axis in [*head, *axes]:
        if axis.size == 1:
            continue
        if merged and all(
            outer == inner * axis.size for outer, inner in zip(merged[-1].strides, axis.strides, strict=True)
        ):
            merged[-1] = Axis(merged[-1].size * axis.size, axis.strides)
        else:
            merged.append(axis)
    merged += tail
    return tuple(merged) or (Axis(1, (1,) * len(strides)),)
