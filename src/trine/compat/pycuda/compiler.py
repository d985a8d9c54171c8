"""``pycuda.compiler``: programs may import it. What it compiles would need a GPU to run, and is refused."""

from __future__ import annotations

from typing import Any, NoReturn

from trine.errors import UnsupportedError

__all__ = ["SourceModule", "compile"]


class SourceModule:
    """CUDA C source. Raises UnsupportedError."""

    def __init__(self, source: str, *args: Any, **options: Any) -> None:
        raise _refused("SourceModule")


def compile(source: str, *args: Any, **options: Any) -> NoReturn:  # noqa: A001 - pycuda's name
    """CUDA C source to a cubin. Raises UnsupportedError."""
    raise _refused("compile")


def _refused(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"pycuda.compiler.{what}: no GPU runs kernels on this memory, the host's; do this step in NumPy, or run "
        "the program with pycuda itself on an NVIDIA GPU"
    )
