"""Triton functions whose text is made at build time."""

from __future__ import annotations

import functools
import hashlib
import linecache
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.kernels.activations import activate

__all__ = ["function_from_source"]


@functools.cache
def function_from_source(text: str, name: str) -> Any:
    """The Triton function ``name`` that ``text`` defines, with ``triton``, ``tl`` and ``activate`` in scope.

    The same text gives the same function. ``generated_source`` of the function is the text: another process makes the
    same function of it. Triton reads a function's source through ``inspect``, which finds it in ``linecache``.
    """
    file = f"<trine generated {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"triton": triton, "tl": tl, "activate": activate, "__name__": __name__}
    exec(compile(text, file, "exec", dont_inherit=True), scope)
    function = scope[name]
    function.generated_source = text
    return function
