"""Groups run in NumPy where a plan puts their buffers, beside a run in which each buffer has memory of its own.

Both runs must agree in every byte that every group writes. In the plan's arena nothing but those bytes may change;
what is dead, scratch memory, and what nobody has written yet is poison. Alone, each buffer stands between guards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trine.backends.cuda.cpu_group import CpuGroup
from trine.backends.cuda.groups import Buffer, Group, View
from trine.backends.cuda.lowering import Lowered
from trine.backends.cuda.memory_plan import Placement, lifetimes, plan_memory
from trine.backends.cuda.reference import NUMPY_TYPES, Memory, run_group
from trine.backends.cuda.registry import all_tactics
from trine.backends.cuda.tactic import Scratch
from trine.backends.cuda.target import Target

__all__ = ["first_scratch", "run_apart_and_placed"]

Array = np.ndarray[Any, Any]
POISON = 0xFF  # NaN in every floating type
GUARD = 256  # bytes before and after a buffer that stands alone
OTHER = 0x5A  # and what they hold


class Apart(Memory):
    """A buffer has an array of its own, made when it is first asked for."""

    def __init__(self, inputs: Mapping[Buffer, Array]) -> None:
        super().__init__({}, np.empty(0, np.uint8), dict(inputs))
        self._whole: dict[Buffer, Array] = {}

    def storage(self, buffer: Buffer) -> Array:
        if buffer.kind == "weight" or buffer in self.edges:
            return super().storage(buffer)
        if buffer not in self._whole:
            whole = np.full(buffer.nbytes + 2 * GUARD, OTHER, np.uint8)
            whole[GUARD : GUARD + buffer.nbytes] = POISON
            self._whole[buffer] = whole
        return self._whole[buffer][GUARD : GUARD + buffer.nbytes].view(NUMPY_TYPES[buffer.dtype])

    def check_guards(self) -> None:
        for buffer, whole in self._whole.items():
            guards = np.concatenate([whole[:GUARD], whole[GUARD + buffer.nbytes :]])
            assert (guards == OTHER).all(), f"beside {buffer.name} something was written"


def first_scratch(groups: Sequence[Group], target: Target) -> list[tuple[Buffer, int]]:
    """What the first guess of the first tactic for each group wants: (buffer, index of its group)."""
    found: dict[Buffer, int] = {}
    for index, group in enumerate(groups):
        if isinstance(group, CpuGroup):
            continue
        tactic = next(each for each in all_tactics(True) if each.supports(group, target))
        for launch in tactic.launches(group, tactic.configurations(group, target)[0], target):
            found |= {each.buffer: index for each in launch.arguments if isinstance(each, Scratch)}
    return list(found.items())


def run_apart_and_placed(
    low: Lowered, feed: Sequence[Array], scratch: Sequence[tuple[Buffer, int]] = (), placement: Placement | None = None
) -> list[Array]:
    """The outputs. Raises AssertionError where the two runs differ, or something is written that no group may write.

    ``placement``: of all arena buffers and scratch; plan_memory's if none is given.
    """
    groups = low.groups
    placement = plan_memory(groups, scratch) if placement is None else placement
    inputs = {buffer: np.ascontiguousarray(array).reshape(-1) for buffer, array in zip(low.inputs, feed, strict=True)}
    apart = Apart(inputs)
    placed = Memory(placement.offsets, np.full(placement.arena_bytes, POISON, np.uint8), dict(inputs))
    for buffer in low.outputs:
        placed.edges[buffer] = _poisoned(buffer)
    last = {each.buffer: each.last for each in lifetimes(groups)}
    for index, group in enumerate(groups):
        for buffer in [each for each, owner in scratch if owner == index]:
            start = placement.offsets[buffer]
            placed.arena[start : start + buffer.nbytes] = POISON
        before = placed.arena.copy()
        run_group(group, apart)
        run_group(group, placed)
        apart.check_guards()
        allowed = np.zeros(placed.arena.size, bool)
        for view in _written(group):
            there, alone = placed.window(view), apart.window(view)
            assert there.tobytes() == alone.tobytes(), f"{group.name} writes other bytes where the plan puts it"
            if view.buffer.kind == "arena":
                shadow = Memory(placement.offsets, allowed.view(np.uint8))
                shadow.window(view)[...] = np.frombuffer(b"\1" * there.itemsize, there.dtype)[0]
        changed = np.flatnonzero((placed.arena != before) & ~allowed)
        assert not changed.size, f"{group.name} wrote {changed.size} bytes that are not its own, from {changed[0]} on"
        for buffer in [each for each, when in last.items() if when == index]:
            start = placement.offsets[buffer]
            placed.arena[start : start + buffer.nbytes] = POISON
    answers = [placed.edges[buffer] for buffer in low.outputs]
    for buffer, answer in zip(low.outputs, answers, strict=True):
        assert answer.tobytes() == apart.storage(buffer).tobytes(), f"{buffer.name} differs where the plan puts it"
    return answers


def _written(group: Group) -> list[View]:
    """With the padding, where y has some."""
    padding = getattr(group, "zero_after", 0)
    if not padding:
        return group.written()
    return [replace(group.y, shape=(*group.y.shape[:-1], group.y.shape[-1] + padding))]


def _poisoned(buffer: Buffer) -> Array:
    return np.full(buffer.nbytes, POISON, np.uint8).view(NUMPY_TYPES[buffer.dtype])
