"""What the runtime asks of a compiled graph, whichever backend compiled it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

__all__ = ["ENGINE_CLOSED", "Executor", "Session"]

# What callers of a closed engine are told, in an InputError.
ENGINE_CLOSED = "this engine is closed; load it again with trine.load"


class Session(Protocol):
    """One caller's hold on a compiled graph: its own buffers; not to be shared between threads at one time.

    A session with a method ``close`` has memory that is freed by it, at the latest when its executor is closed.
    """

    @property
    def writes_in_place(self) -> bool:
        """Whether giving it memory for large outputs saves a copy."""
        ...

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """Compute all outputs, in the manifest's order.

        ``inputs`` are C-contiguous and of the manifest's dtypes. An array in ``outputs`` is written in place
        and returned; for None a new array is returned, which the session never touches again. Raises ExecutionError
        with the backend's reason.
        """
        ...


class Executor(Protocol):
    """A graph compiled for one device. Sessions made from it share its weights and may run at once."""

    def open_session(self) -> Session:
        """A new session."""
        ...

    def close(self) -> None:
        """Let go of the backend's memory. Sessions must not be used afterwards; those on a GPU raise InputError."""
        ...
