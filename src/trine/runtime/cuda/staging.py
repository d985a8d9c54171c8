"""NumPy arrays to the device and back: pinned host memory, and device memory that the kernels read and write."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import DeviceMemoryError
from trine.runtime.cuda.gpu_driver import GpuDriver
from trine.runtime.cuda.plan import CudaPlan

__all__ = ["Staging", "item_bytes"]


def item_bytes(dtype: str) -> int:
    """Of a manifest's element type."""
    return DataType(dtype).bits // 8


class Staging:
    """Memory for a session's NumPy calls, made at the first and grown when a call has more rows than any before."""

    def __init__(self, driver: GpuDriver, plan: CudaPlan, outputs: Sequence[TensorInfo]) -> None:
        self._driver, self._plan = driver, plan
        self._dtypes = [info.dtype.numpy for info in outputs]
        self._rows = 0
        self.inputs: tuple[int, ...] = ()
        self.outputs: tuple[int, ...] = ()
        self._pinned_inputs: list[np.ndarray[Any, Any]] = []
        self._pinned_outputs: list[np.ndarray[Any, Any]] = []
        self._device: list[int] = []
        self._pinned: list[int] = []

    def send(self, arrays: Sequence[np.ndarray[Any, Any]], rows: int, stream: Any) -> None:
        """Queue the copies to the device."""
        self._grow(rows)
        for array, pinned, address in zip(arrays, self._pinned_inputs, self.inputs, strict=True):
            flat = array.reshape(-1).view(np.uint8)
            pinned[: flat.size] = flat
            self._driver.upload(address, int(pinned.ctypes.data), flat.size, stream)

    def fetch(
        self, targets: Sequence[np.ndarray[Any, Any] | None], rows: int, stream: Any
    ) -> list[np.ndarray[Any, Any]]:
        """Wait for the answers: into ``targets``, or new arrays."""
        answers = []
        for index, ((shape, dtype), pinned, address) in enumerate(
            zip(self._plan.outputs, self._pinned_outputs, self.outputs, strict=True)
        ):
            full = (rows, *shape) if self._plan.rows_vary else shape
            size = int(np.prod(full, dtype=np.int64)) * item_bytes(dtype)
            self._driver.download(int(pinned.ctypes.data), address, size, stream)
            answers.append((index, full, size, pinned))
        self._driver.synchronize(stream)
        results = []
        for index, full, size, pinned in answers:
            target = targets[index]
            if target is None:
                target = np.empty(full, self._dtypes[index])
            target.reshape(-1).view(np.uint8)[:] = pinned[:size]
            results.append(target)
        return results

    def clear(self, rows: int, stream: Any) -> None:
        """Make the device's inputs, for this many rows, zeros."""
        self._grow(rows)
        for address, pinned in zip(self.inputs, self._pinned_inputs, strict=True):
            self._driver.fill(address, 0, pinned.size, stream)

    def _grow(self, rows: int) -> None:
        if rows <= self._rows:
            return
        self.close()
        wanted = max(rows, 1)
        host = []
        try:
            for shape, dtype in (*self._plan.inputs, *self._plan.outputs):
                row = int(np.prod(shape, dtype=np.int64)) * item_bytes(dtype)
                nbytes = max(row * (wanted if self._plan.rows_vary else 1), 1)
                self._device.append(self._driver.allocate(nbytes, "a context's inputs and outputs"))
                self._pinned.append(self._driver.allocate_pinned(nbytes))
                host.append(np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self._pinned[-1])))
        except DeviceMemoryError:
            self.close()  # a call with fewer rows may still succeed
            raise
        split = len(self._plan.inputs)
        self.inputs, self.outputs = tuple(self._device[:split]), tuple(self._device[split:])
        self._pinned_inputs, self._pinned_outputs = host[:split], host[split:]
        self._rows = wanted

    def close(self) -> None:
        """Free it all; the next call makes it anew."""
        while self._device:
            self._driver.free(self._device.pop())
        while self._pinned:
            self._driver.free_pinned(self._pinned.pop())
        self.inputs = self.outputs = ()
        self._pinned_inputs, self._pinned_outputs = [], []
        self._rows = 0
