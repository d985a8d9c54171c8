"""What TensorRT logs, kept: its reasons stand nowhere else."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

__all__ = ["Messages", "flat"]

log = logging.getLogger("trine")

_ERRORS = ("INTERNAL_ERROR", "ERROR")


class Messages:
    """A logger for the package ``trt``. Errors and warnings go to trine's log too, as details.

    ``logger`` is what TensorRT is given. ``all``: (severity, text) in order; the last ``keep`` of them, None for all: a
    build's list of layers is wanted whole, a process that runs for months is not.
    """

    def __init__(self, trt: Any, keep: int | None = None) -> None:
        kept: deque[tuple[str, str]] = deque(maxlen=keep)

        class Logger(trt.ILogger):  # type: ignore[misc]  # whichever package's
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                kept.append((severity.name, message))
                if severity.name in (*_ERRORS, "WARNING"):
                    log.debug("TensorRT: %s", message)

        self.all = kept
        self.logger = Logger()

    def clear(self) -> None:
        """Forget them, so that ``errors`` says those of what comes next."""
        self.all.clear()

    def errors(self) -> str:
        """The errors, each once; said plainly where there is none."""
        found = dict.fromkeys(flat(text) for name, text in tuple(self.all) if name in _ERRORS)
        return "; ".join(found) or "it gave no reason"


def flat(text: str) -> str:
    """On one line."""
    return " ".join(text.split())
