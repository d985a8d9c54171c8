"""How cuda-python's calls answer: a tuple of an error code and the results, which are None where the call failed."""

from __future__ import annotations

import enum
import functools
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["Refused", "answering", "missing"]

log = logging.getLogger("trine")


class Refused(Exception):  # noqa: N818  # it becomes an error code
    """A call cannot be done. ``code`` is the error's number, the same in CUDA's runtime and driver."""

    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    NOT_INITIALIZED = 3
    INVALID_DEVICE = 101
    INVALID_CONTEXT = 201
    INVALID_HANDLE = 400
    NOT_SUPPORTED = 801

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def answering(
    errors: type[enum.IntEnum], results: int
) -> Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]:
    """Make a function that returns ``results`` values, or raises Refused, answer as cuda-python's do."""

    def decorate(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        @functools.wraps(function)
        def answer(*arguments: Any, **named: Any) -> tuple[Any, ...]:
            try:
                found = function(*arguments, **named)
            except Refused as err:
                log.error("%s: %s", function.__name__, err)
                return (errors(err.code), *([None] * results))
            if results == 0:
                return (errors(0),)
            return (errors(0), found) if results == 1 else (errors(0), *found)

        return answer

    return decorate


def missing(module: str, name: str) -> AttributeError:
    """For a module's ``__getattr__``: what a program asks for beyond memory, streams, events and devices."""
    return AttributeError(
        f"module {module!r} has no {name!r}: on a CPU trine stands in for CUDA's memory, copies, streams, events, "
        "devices and contexts, and runs no kernels, graphs or modules"
    )
