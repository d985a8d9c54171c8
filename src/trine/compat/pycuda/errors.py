"""pycuda's exceptions.

    Error (TrineError)
    ├── MemoryError (the built-in one too)   there is not that much memory
    ├── LogicError                           the program is at fault: freed memory, a buffer too small, no context
    ├── LaunchError                          a kernel failed; nothing here raises it
    └── RuntimeError                         something outside of the program failed

Texts start as CUDA's do, "cuMemcpyHtoD failed: invalid argument", and then say what is wrong and what to do.
"""

from __future__ import annotations

import builtins

from trine.errors import TrineError

__all__ = ["Error", "LaunchError", "LogicError", "MemoryError", "RuntimeError", "failed"]


class Error(TrineError):
    """Base of pycuda's errors."""


class MemoryError(Error, builtins.MemoryError):  # noqa: A001  # pycuda's name
    """An allocation failed for want of memory."""


class LogicError(Error):
    """The program made a mistake; the text says which."""


class LaunchError(Error):
    """A kernel failed. Programs name it in ``except``; nothing here raises it."""


class RuntimeError(Error):  # noqa: A001  # pycuda's name
    """Something failed that is not the program's fault."""


def failed(call: str, code: str, why: str) -> LogicError:
    """A LogicError in CUDA's words: the driver call, its error code's meaning, and what is behind it."""
    return LogicError(f"{call} failed: {code} - {why}")
