"""Where each buffer lies in the arena: buffers that do not live at the same time share memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trine.backends.cuda.groups import Buffer, Group

__all__ = ["ALIGNMENT", "Lifetime", "Placement", "lifetimes", "plan_memory"]

ALIGNMENT = 256  # bytes; what cudaMalloc gives, and more than any vector load or TMA descriptor asks for


@dataclass(frozen=True)
class Lifetime:
    """A buffer is alive from group ``first`` to group ``last``, both included."""

    buffer: Buffer
    first: int
    last: int

    @property
    def nbytes(self) -> int:
        """The buffer's size, rounded up to the alignment."""
        return -(-max(1, self.buffer.nbytes) // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Placement:
    """Offsets in bytes of all arena buffers, each a multiple of ALIGNMENT. ``live_bytes``: what no plan can beat, the
    largest sum of what is alive at one group."""

    offsets: Mapping[Buffer, int]
    arena_bytes: int
    live_bytes: int


def lifetimes(groups: Sequence[Group], scratch: Iterable[tuple[Buffer, int]] = ()) -> list[Lifetime]:
    """First and last use of every arena buffer. ``scratch``: buffers that one group's launches need, and its index.

    A buffer that several groups write in parts lives from the first of them on.
    """
    spans: dict[Buffer, tuple[int, int]] = {}
    for index, group in enumerate(groups):
        for view in (*group.views(), *group.written()):
            if view.buffer.kind == "arena":
                first, _ = spans.get(view.buffer, (index, index))
                spans[view.buffer] = (first, index)
    for buffer, index in scratch:
        first, last = spans.get(buffer, (index, index))
        spans[buffer] = (min(first, index), max(last, index))
    return [Lifetime(buffer, first, last) for buffer, (first, last) in spans.items()]


def plan_memory(groups: Sequence[Group], scratch: Iterable[tuple[Buffer, int]] = ()) -> Placement:
    """Offsets for all arena buffers of ``groups``. Several orders of placing are tried; the smallest arena is taken."""
    return place(lifetimes(groups, scratch))


def place(living: Sequence[Lifetime]) -> Placement:
    """See plan_memory."""
    orders = (
        sorted(living, key=lambda each: (-each.nbytes, each.first)),
        sorted(living, key=lambda each: (-each.nbytes * (each.last - each.first + 1), each.first)),
        sorted(living, key=lambda each: (each.first, -each.nbytes)),
        sorted(living, key=lambda each: (-each.last, -each.nbytes)),
    )
    offsets, size = min((_placed(order) for order in orders), key=lambda result: result[1])
    return Placement(offsets, size, _live_bytes(living))


def _placed(order: Sequence[Lifetime]) -> tuple[dict[Buffer, int], int]:
    """Each buffer in turn into the tightest gap among those placed that live at the same time."""
    offsets: dict[Buffer, int] = {}
    done: list[tuple[int, int, Lifetime]] = []  # start, end
    size = 0
    for each in order:
        gap_start, best, tightest = 0, -1, 0
        for start, end, other in sorted(done, key=lambda entry: entry[0]):
            if other.last < each.first or each.last < other.first:
                continue
            room = start - gap_start
            if room >= each.nbytes and (best < 0 or room < tightest):
                best, tightest = gap_start, room
            gap_start = max(gap_start, end)
        offset = best if best >= 0 else gap_start
        offsets[each.buffer] = offset
        done.append((offset, offset + each.nbytes, each))
        size = max(size, offset + each.nbytes)
    return offsets, size


def _live_bytes(living: Sequence[Lifetime]) -> int:
    changes: dict[int, int] = {}
    for each in living:
        changes[each.first] = changes.get(each.first, 0) + each.nbytes
        changes[each.last + 1] = changes.get(each.last + 1, 0) - each.nbytes
    alive = largest = 0
    for index in sorted(changes):
        alive += changes[index]
        largest = max(largest, alive)
    return largest
