"""What the driver's statuses mean for a caller: which exception each becomes, and what to do."""

from __future__ import annotations

from collections.abc import Callable

from trine.errors import DeviceError, DeviceLostError, NoDeviceError
from trine.runtime.cuda.architectures import remedy

__all__ = ["FORKED", "KERNEL_FAULTS", "refusal"]

# Statuses after which this process can do nothing more on the GPU, and what happened.
KERNEL_FAULTS = {
    **dict.fromkeys(
        (
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            "CUDA_ERROR_LAUNCH_TIMEOUT",
            "CUDA_ERROR_ASSERT",
            "CUDA_ERROR_HARDWARE_STACK_ERROR",
            "CUDA_ERROR_ILLEGAL_INSTRUCTION",
            "CUDA_ERROR_MISALIGNED_ADDRESS",
            "CUDA_ERROR_INVALID_ADDRESS_SPACE",
            "CUDA_ERROR_INVALID_PC",
            "CUDA_ERROR_LAUNCH_FAILED",
            "CUDA_ERROR_TENSOR_MEMORY_LEAK",
        ),
        "a kernel failed",
    ),
    "CUDA_ERROR_ECC_UNCORRECTABLE": "the GPU's memory failed",
    "CUDA_ERROR_NVLINK_UNCORRECTABLE": "the link between GPUs failed",
    "CUDA_ERROR_CONTAINED": "the GPU's memory or its links failed",
    "CUDA_ERROR_EXTERNAL_DEVICE": "a device beside the GPU failed",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": "something in this process reset the GPU",
    "CUDA_ERROR_MPS_CLIENT_TERMINATED": "the MPS server ended this process's work",
}

FORKED = (
    "this process was forked from one that had started the GPU, which does not survive that; start it anew instead, "
    'with multiprocessing.get_context("spawn")'
)


def refusal(status: str, function: str, ordinal: int, capability: Callable[[], int]) -> DeviceError:
    """Of a call of the driver's ``function``, for cuda:``ordinal``. ``capability``: asks that GPU's, 90 for sm_90."""
    what = f"cuda:{ordinal}: {status} in {function}"
    if status in KERNEL_FAULTS:
        cause = KERNEL_FAULTS[status]
        report = ", and report the engine that did this" if "kernel" in cause else ""
        return DeviceLostError(f"{what}: {cause}, and this process can no longer use the GPU; start it anew{report}")
    if status == "CUDA_ERROR_NO_BINARY_FOR_GPU":
        here = capability()
        return NoDeviceError(
            f"cuda:{ordinal} is an sm_{here}, and cannot run the engine's kernels, which are for another architecture; "
            f"{remedy(here)}"
        )
    if status == "CUDA_ERROR_INVALID_IMAGE":
        return NoDeviceError(
            f"{what}: the driver does not know the engine's machine code; update NVIDIA's driver, build the engine "
            'with an older Triton, or load it with device="cpu"'
        )
    if status == "CUDA_ERROR_NOT_INITIALIZED":
        return NoDeviceError(f"{what}: {FORKED}")
    return DeviceError(what)
