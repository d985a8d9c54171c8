"""NVIDIA's driver as Python finds it: the bindings, and whether there is a driver under them."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from trine.errors import MissingDependencyError, NoDeviceError
from trine.runtime.cuda.faults import FORKED

__all__ = ["usable_driver", "visible_devices"]

# Why the driver does not start, and what to do.
_NO_START = {
    "CUDA_ERROR_NO_DEVICE": "no GPU is to be seen; see nvidia-smi, and start a container with --gpus all",
    "CUDA_ERROR_INVALID_DEVICE": "no GPU is to be seen; see nvidia-smi",
    "CUDA_ERROR_NOT_INITIALIZED": FORKED,
    "CUDA_ERROR_STUB_LIBRARY": "the libcuda.so.1 that was found is the toolkit's stub; take its folder, stubs, "
    "from LD_LIBRARY_PATH",
    "CUDA_ERROR_SYSTEM_NOT_READY": "the GPUs' switches are not set up; start the service nvidia-fabricmanager",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "libcuda.so.1 and the kernel's driver are of different versions; restart the "
    "machine after an update of the driver",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "this GPU takes no libcuda.so.1 newer than the kernel's driver; take "
    "the folder of cuda-compat from LD_LIBRARY_PATH, or update the driver",
    "CUDA_ERROR_DEVICE_NOT_LICENSED": "the virtual GPU has no licence; see nvidia-smi -q",
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
        (status, *_) = cu.cuInit(0)
    except (OSError, RuntimeError) as err:
        raise NoDeviceError(
            f"no NVIDIA driver (libcuda) is installed here: {err}; install NVIDIA's driver, and start a container with "
            "--gpus all"
        ) from err
    if int(status) != 0:
        why = _NO_START.get(status.name, "see whether nvidia-smi finds a GPU, and restart the machine if it does not")
        raise NoDeviceError(f"the NVIDIA driver does not start: {status.name}: {why}{visible_devices()}")
    return cu


def visible_devices() -> str:
    """What hides GPUs from this process, for the end of a text; empty where nothing does."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if given is None else f" (CUDA_VISIBLE_DEVICES is {given!r}: only those can be used)"
