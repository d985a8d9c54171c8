"""Streams and memory that callers bring, as NVIDIA's driver knows them: whose they are, and what may be done there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trine.errors import DeviceError, DeviceLostError, InputError

__all__ = ["CAPTURED", "check_stream", "device_of"]

CAPTURED = (
    "stream: it is being captured into a CUDA graph, and an engine's call cannot become a part of one: it waits for "
    "what came before the capture, and may allocate. Call the engine outside of the capture; it replays a CUDA graph "
    "of its own"
)


def check_stream(
    call: Callable[..., Any], ask: Callable[..., tuple[bool, Any]], ordinal: int, context: Any, stream: Any
) -> None:
    """Raises InputError as GpuDriver says. ``call`` and ``ask``: Driver's. To be called with ``context`` current."""
    try:
        theirs = call("cuStreamGetCtx", stream)  # of the default streams: the current one, ours
    except DeviceLostError:
        raise
    except DeviceError as err:
        raise InputError(
            f"stream: expected one of cuda:{ordinal}'s, got one that is none: {err}; pass one that was not destroyed"
        ) from err
    if int(theirs) != int(context):
        # Events and graphs of ours cannot go there, not even where it is the same GPU's.
        device = _device(call, theirs)
        if device != ordinal:
            raise InputError(
                f"stream: expected one of cuda:{ordinal}'s, got one of cuda:{device}'s; pass a stream of the engine's "
                f'GPU, or load the engine with device="cuda:{device}"'
            )
        raise InputError(
            f"stream: expected one of cuda:{ordinal}'s primary context, which PyTorch and CuPy use, got one of another "
            "context there; make it in the primary one (pycuda: import pycuda.autoprimaryctx, not pycuda.autoinit)"
        )
    # Asking about the default stream while another one is captured has a status of its own.
    possible, capturing = ask("cuStreamIsCapturing", stream, no="CUDA_ERROR_STREAM_CAPTURE_IMPLICIT")
    if not possible or int(capturing):
        raise InputError(CAPTURED)


def _device(call: Callable[..., Any], context: Any) -> int:
    call("cuCtxPushCurrent", context)
    try:
        return int(call("cuCtxGetDevice"))
    finally:
        call("cuCtxPopCurrent")


def device_of(ask: Callable[..., tuple[bool, Any]], kinds: Any, ordinal: int, address: int) -> int | None:
    """As GpuDriver has it. ``ask``: Driver's; ``kinds``: the bindings' enumeration of what is known of an address."""
    unknown = "CUDA_ERROR_INVALID_VALUE"
    known, device = ask("cuPointerGetAttribute", kinds.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address, no=unknown)
    if not known or int(device) < 0:
        return None
    if int(device) != ordinal:
        known, managed = ask("cuPointerGetAttribute", kinds.CU_POINTER_ATTRIBUTE_IS_MANAGED, address, no=unknown)
        if known and managed:
            return ordinal
    return int(device)
