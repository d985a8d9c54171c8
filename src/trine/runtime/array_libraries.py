"""What PyTorch and CuPy have that a plain array on a GPU has not: a current stream."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from typing import Any

from trine.errors import InputError
from trine.runtime.arrays import is_torch

__all__ = ["current_stream", "interface_stream", "library_stream"]

# How streams of PyTorch, CuPy, pycuda, cuda-core and Numba give their handle. Numba's is in ctypes, which has a value.
_HANDLES = ("cuda_stream", "ptr", "handle", "value")


def library_stream(value: Any) -> int | None:
    """The handle of the current stream of the library that ``value``, on a GPU, is of. None: it has none."""
    if is_torch(value):
        return int(sys.modules["torch"].cuda.current_stream(value.device).cuda_stream) if value.is_cuda else None
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(value, cupy.ndarray):
        with value.device:  # the current stream is the current GPU's
            return int(cupy.cuda.get_current_stream().ptr)
    return None


def interface_stream(described: Mapping[str, Any]) -> int | None:
    """The handle of the stream on which an array with this CUDA array interface is made; None: of no stream, or it is
    ready."""
    stream = described.get("stream")
    return None if stream is None else _plain(int(stream))


def current_stream(inputs: Mapping[str, Any], stream: Any) -> int | None:
    """The handle of ``stream``, or of the library's current stream that the inputs come from, or of the one that their
    CUDA array interface names; None: the context's own.

    ``stream``: a handle, or a stream of PyTorch, CuPy, pycuda, cuda-core or Numba. Raises InputError for anything else.
    """
    if stream is not None:
        for attribute in _HANDLES:
            stream = getattr(stream, attribute, stream)
        try:
            return _plain(0 if stream is None else int(stream))  # ctypes has None for 0
        except (TypeError, ValueError) as err:
            raise InputError(
                f"stream: expected a handle or a stream of PyTorch, CuPy or pycuda, got {type(stream).__name__}"
            ) from err
    # Libraries first: what their callers do next is ordered by that stream, where others wait for the answers.
    found = itertools.chain(
        (library_stream(value) for value in inputs.values()),
        (interface_stream(getattr(value, "__cuda_array_interface__", {})) for value in inputs.values()),
    )
    return next((handle for handle in found if handle is not None), None)


def _plain(handle: int) -> int:
    """The default stream has two handles, 0 and 1."""
    return 0 if handle == 1 else handle
