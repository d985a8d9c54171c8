"""The groups while they are being fused: who reads and who writes each buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trine.backends.cuda.groups import Buffer, Group, View

__all__ = ["Program"]


class Program:
    """Groups in order. A group that was absorbed leaves a hole, so that positions stay valid during a pass."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups: list[Group | None] = list(groups)
        self._readers: dict[Buffer, set[int]] = {}
        self._writers: dict[Buffer, set[int]] = {}
        self._ahead: dict[int, list[Group]] = {}
        for index in range(len(self._groups)):
            self._enter(index)

    @property
    def groups(self) -> list[Group]:
        """What is left, in order."""
        return [
            each
            for index, group in enumerate(self._groups)
            for each in [*self._ahead.get(index, ()), group]
            if each is not None
        ]

    def positions(self) -> Iterator[tuple[int, Group]]:
        """Each group that is left when its turn comes, with its position."""
        for index in range(len(self._groups)):
            group = self._groups[index]
            if group is not None:
                yield index, group

    def at(self, index: int) -> Group | None:
        """The group at a position, if it is still there."""
        return self._groups[index]

    def readers(self, buffer: Buffer) -> list[int]:
        """Positions of the groups that read a buffer, in order."""
        return sorted(self._readers.get(buffer, ()))

    def writers(self, buffer: Buffer) -> list[int]:
        """Positions of the groups that write a buffer, in order."""
        return sorted(self._writers.get(buffer, ()))

    def only_writer(self, view: View) -> tuple[int, Group] | None:
        """Who writes the view's buffer, if that is one group and the buffer is the arena's."""
        writers = self.writers(view.buffer)
        if view.buffer.kind != "arena" or len(writers) != 1:
            return None
        group = self._groups[writers[0]]
        assert group is not None
        return writers[0], group

    def only_reader(self, buffer: Buffer, index: int) -> bool:
        """Whether the group at ``index`` is the only one that reads a buffer."""
        return self._readers.get(buffer, set()) == {index}

    def put(self, index: int, group: Group | None) -> None:
        """Another group, or none, at a position."""
        self._leave(index)
        self._groups[index] = group
        self._enter(index)

    def put_ahead(self, index: int, group: Group) -> None:
        """One more group just before a position. It has none itself: the steps that follow leave it alone."""
        self._ahead.setdefault(index, []).append(group)

    def _enter(self, index: int) -> None:
        group = self._groups[index]
        if group is None:
            return
        for view in group.views():
            self._readers.setdefault(view.buffer, set()).add(index)
        for view in group.written():
            self._writers.setdefault(view.buffer, set()).add(index)

    def _leave(self, index: int) -> None:
        group = self._groups[index]
        if group is None:
            return
        for view in group.views():
            self._readers[view.buffer].discard(index)
        for view in group.written():
            self._writers[view.buffer].discard(index)
