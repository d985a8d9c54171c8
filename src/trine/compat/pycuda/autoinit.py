"""pycuda.autoinit: importing it initialises everything; ``context`` is then current for the importing thread."""

from __future__ import annotations

import atexit

from trine.compat.pycuda.contexts import Context, init
from trine.compat.pycuda.tools import make_default_context

__all__ = ["context", "device"]

init()
context = make_default_context()
device = Context.get_device()


def _finish() -> None:
    """Takes the context off the main thread's stack, unless the program did."""
    if Context.get_current() is context:
        context.pop()


atexit.register(_finish)
