"""pycuda.tools: the part that starts a program."""

from __future__ import annotations

from collections.abc import Callable

from trine.compat.pycuda.contexts import Context, Device

__all__ = ["clear_context_caches", "make_default_context"]


def make_default_context(ctx_maker: Callable[[Device], Context] | None = None) -> Context:
    """A context on the one device, made current. ``ctx_maker`` gets the device in place of ``make_context``."""
    device = Device(0)
    return device.make_context() if ctx_maker is None else ctx_maker(device)


def clear_context_caches() -> None:
    """Nothing to do: nothing is cached for a context."""
