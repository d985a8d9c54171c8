"""What callers lend to a call that returns before the GPU has done it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from trine.runtime.cuda.gpu_driver import GpuDriver

__all__ = ["Held"]


class Held:
    """References that are kept until the work queued before them is done, and the next occasion to look."""

    def __init__(self, driver: GpuDriver) -> None:
        self._driver = driver
        self._kept: deque[tuple[Any, Sequence[Any]]] = deque()

    def keep(self, things: Sequence[Any], stream: Any) -> None:
        """Until what is on ``stream`` now is done."""
        event = self._driver.event()
        self._kept.append((event, things))
        self._driver.record(event, stream)

    def release(self) -> None:
        """Let go of what is no longer needed. A session's calls follow one another, so that the first is done first."""
        while self._kept and self._driver.is_done(self._kept[0][0]):
            self._drop()

    def close(self) -> None:
        """Let go of all; nothing is to be under way."""
        while self._kept:
            self._drop()

    def _drop(self) -> None:
        event, _ = self._kept.popleft()
        self._driver.destroy_event(event)
