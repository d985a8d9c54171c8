"""The stages of a build: their times for the record, their progress for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

__all__ = ["Stages"]


class Stages:
    """``with stages("compile"): …`` measures a stage and, with ``show``, draws it on stderr."""

    def __init__(self, *, show: bool) -> None:
        self.seconds: list[dict[str, Any]] = []
        self._console: Any = None
        if show:
            from rich.console import Console

            self._console = Console(stderr=True)
        self._status: Any = None

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        with self._spinner(name) as self._status:
            yield
        seconds = time.perf_counter() - start
        self.seconds.append({"name": name, "seconds": round(seconds, 4)})
        if self._console is not None:
            self._console.print(f"  [green]done[/green] {name} [dim]{seconds:.1f} s[/dim]")

    def detail(self, text: str) -> None:
        """Say what the running stage is at."""
        if self._status is not None:
            self._status.update(text)

    def _spinner(self, name: str) -> AbstractContextManager[Any]:
        return nullcontext() if self._console is None else self._console.status(name)
