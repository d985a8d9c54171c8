"""NVIDIA's driver as Python finds it: the bindings, and whether there is a driver under them."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from trine.errors import MissingDependencyError, NoDeviceError

__all__ = ["KERNEL_FAULTS", "usable_driver"]

# Statuses after which the process can do nothing more on the GPU.
KERNEL_FAULTS = {
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_TENSOR_MAP",
}


@functools.cache
def usable_driver() -> Any:
    """The bindings, with the driver started.

    Raises MissingDependencyError without the bindings, NoDeviceError without a driver or a GPU.
    """
    try:
        from cuda.bindings import driver as cu
    except ImportError as err:
        raise MissingDependencyError(
            "running on an NVIDIA GPU needs cuda-bindings: pip install 'trine[cuda]'", name="cuda.bindings"
        ) from err
    try:
        ctypes.CDLL("libcuda.so.1")
        (status,) = cu.cuInit(0)
    except (OSError, RuntimeError) as err:
        raise NoDeviceError(f"no NVIDIA driver (libcuda) is installed here: {err}") from err
    if int(status) != 0:
        raise NoDeviceError(f"the NVIDIA driver does not start: {status.name}; see that a GPU is there with nvidia-smi")
    return cu
