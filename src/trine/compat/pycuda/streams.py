"""Streams and events. Work on a stream is done when the call that asked for it returns, in the order of the calls."""

from __future__ import annotations

import enum
import itertools
import time
from typing import Any

from trine.compat.pycuda.contexts import current_context
from trine.compat.pycuda.errors import failed

__all__ = ["Event", "Stream", "event_flags"]

# Handles look like the pointers that CUDA's are: not 0, which stands for the default stream, and never the same twice.
_handles = itertools.count(0x5_0000_0000, 0x100)


class event_flags(enum.IntEnum):  # noqa: N801  # pycuda's name
    """Flags of ``Event``, with CUDA's numbers."""

    DEFAULT = 0
    BLOCKING_SYNC = 1
    DISABLE_TIMING = 2
    INTERPROCESS = 4


class Stream:
    """A queue of work, done in order. ``handle`` is what TensorRT's ``stream_handle`` takes.

    On the CPU each call does its work before it returns, so the queue is always empty.
    """

    def __init__(self, flags: int = 0) -> None:
        self._context = current_context("cuStreamCreate")
        self._flags = int(flags)
        self._handle = next(_handles)

    @property
    def handle(self) -> int:
        """An integer that no other stream has."""
        return self._handle

    def require_alive(self, call: str) -> None:
        """Raises LogicError, as from the driver call ``call``, when its context has ended."""
        self._context.require_alive(call)

    def synchronize(self) -> None:
        """Waits for the work so far: returns at once."""
        self.require_alive("cuStreamSynchronize")

    def is_done(self) -> bool:
        """Whether all work is done: True."""
        self.require_alive("cuStreamQuery")
        return True

    def wait_for_event(self, event: Event) -> None:
        """Later work waits for ``event``: it has happened already."""
        self.require_alive("cuStreamWaitEvent")
        if not isinstance(event, Event):
            raise TypeError(f"wait_for_event: expected an Event, got {type(event).__name__}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.handle == self.handle

    def __hash__(self) -> int:
        return hash(self._handle)

    def __repr__(self) -> str:
        return f"<trine.compat.pycuda.Stream {self._handle:#x}>"


class Event:
    """A moment in a stream: the time between two of them is how long the work between them took."""

    def __init__(self, flags: int = 0) -> None:
        self._context = current_context("cuEventCreate")
        self._timed = not int(flags) & event_flags.DISABLE_TIMING
        self._recorded_ns: int | None = None

    def record(self, stream: Stream | None = None) -> Event:
        """Marks now, when all work before it is done. Returns itself."""
        self._context.require_alive("cuEventRecord")
        if stream is not None:
            stream.require_alive("cuEventRecord")
        self._recorded_ns = time.perf_counter_ns()
        return self

    def synchronize(self) -> Event:
        """Waits until it has happened: returns itself at once."""
        self._context.require_alive("cuEventSynchronize")
        return self

    def query(self) -> bool:
        """Whether it has happened. True, as in CUDA also for one that was never recorded."""
        self._context.require_alive("cuEventQuery")
        return True

    def time_since(self, event: Event) -> float:
        """Milliseconds from ``event`` to this one. Raises LogicError unless both were recorded, with timing."""
        return (self._time() - event._time()) / 1e6

    def time_till(self, event: Event) -> float:
        """Milliseconds from this one to ``event``. Raises LogicError unless both were recorded, with timing."""
        return event.time_since(self)

    def _time(self) -> int:
        if not self._timed:
            raise failed("cuEventElapsedTime", "invalid resource handle", "the event was made with DISABLE_TIMING")
        if self._recorded_ns is None:
            raise failed("cuEventElapsedTime", "invalid resource handle", "the event was never recorded; call record()")
        return self._recorded_ns

    def ipc_handle(self) -> Any:
        """Refused: there is no device to share with another process."""
        raise failed("cuIpcGetEventHandle", "operation not supported", "events on the CPU stay in their process")
