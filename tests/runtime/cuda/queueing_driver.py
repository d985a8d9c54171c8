"""A recording driver whose streams are queues, as a GPU's are: what is queued runs later, in some legal order."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.cuda.recording_driver import Executable, Kernel, RecordingDriver

__all__ = ["QueueingDriver"]


@dataclass
class _Item:
    """``work`` may run when the item ``after`` is done."""

    work: Callable[[], None] | None
    after: _Item | None = None
    done: bool = False


class QueueingDriver(RecordingDriver):
    """Streams advance at every call by a random number of steps, each of a random one of those that may. A launch is as
    many steps as its graph has kernels. ``deaf``: waits between streams are forgotten, to see that it shows."""

    def __init__(self, kernels: Mapping[str, Kernel] | None = None, seed: int = 0, deaf: bool = False) -> None:
        super().__init__(kernels, seed=seed)
        self.deaf = deaf
        self._queues: dict[int, deque[_Item]] = {}
        self._recorded: dict[int, _Item] = {}  # the last record of each event
        self._turns = random.Random(seed + 1)

    # What is queued.

    def fill(self, address: int, byte: int, nbytes: int, stream: Any) -> None:
        self._queue(stream, lambda: super(QueueingDriver, self).fill(address, byte, nbytes, stream))

    def upload(self, address: int, host: int, nbytes: int, stream: Any) -> None:
        self._queue(stream, lambda: super(QueueingDriver, self).upload(address, host, nbytes, stream))

    def download(self, host: int, address: int, nbytes: int, stream: Any) -> None:
        self._queue(stream, lambda: super(QueueingDriver, self).download(host, address, nbytes, stream))

    def launch(self, executable: Executable, stream: Any) -> None:
        self._note("launch", int(stream))
        assert executable.alive
        for node in self._order(executable.graph):  # with the parameters of now: later ones are of later launches
            current = executable.nodes[id(node)]
            if current.function in self.kernels:
                kernel, grid, values = self.kernels[current.function], current.grid, current.values
                self._queue(stream, lambda kernel=kernel, grid=grid, values=values: kernel(self, grid, values))

    def record(self, event: Any, stream: Any) -> None:
        self._note("record", int(event), int(stream))
        self._recorded[int(event)] = self._queue(stream, None)

    def wait(self, stream: Any, event: Any) -> None:
        self._note("wait", int(stream), int(event))
        if not self.deaf and int(event) in self._recorded:  # one that was never recorded is not waited for
            self._queue(stream, None, self._recorded[int(event)])

    # What waits.

    def synchronize(self, stream: Any) -> None:
        self._note("synchronize", int(stream))
        while self._queues.get(int(stream)):
            self._step()

    def destroy_stream(self, stream: Any) -> None:
        while self._queues.get(int(stream)):
            self._step()
        super().destroy_stream(stream)

    # How.

    def _queue(self, stream: Any, work: Callable[[], None] | None, after: _Item | None = None) -> _Item:
        item = _Item(work, after)
        self._queues.setdefault(int(stream), deque()).append(item)
        for _ in range(self._turns.choice((0, 0, 0, 1, 5))):
            self._step()
        return item

    def _step(self) -> None:
        heads = [queue for queue in self._queues.values() if queue and (not queue[0].after or queue[0].after.done)]
        if heads:
            item = self._turns.choice(heads).popleft()
            if item.work is not None:
                item.work()
            item.done = True
