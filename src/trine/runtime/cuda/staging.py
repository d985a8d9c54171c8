"""NumPy arrays to the device and back: pinned host memory, and device memory that the kernels read and write."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import DeviceMemoryError
from trine.runtime.cuda.gpu_driver import GpuDriver
from trine.runtime.cuda.plan import CudaPlan

__all__ = ["Staging", "row_bytes"]


def row_bytes(shape: tuple[int, ...] | None, dtype: str) -> int:
    """Of a row of this shape, or of a whole array; 0 where the shape is known only when the CPU has made it."""
    return 0 if shape is None else math.prod(shape) * DataType(dtype).bits // 8


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
        self,
        targets: Sequence[np.ndarray[Any, Any] | None],
        rows: int,
        stream: Any,
        on_cpu: Mapping[int, np.ndarray[Any, Any]],
    ) -> list[np.ndarray[Any, Any]]:
        """Wait for the answers: into ``targets``, or new arrays. ``on_cpu``: those that are in host memory already, by
        their position."""
        sizes = []
        for (shape, dtype), pinned, address in zip(self._plan.outputs, self._pinned_outputs, self.outputs, strict=True):
            size = row_bytes(shape, dtype) * (rows if self._plan.rows_vary else 1)
            sizes.append(size)
            self._driver.download(int(pinned.ctypes.data), address, size, stream)
        self._driver.synchronize(stream)
        results = []
        for index, (size, pinned) in enumerate(zip(sizes, self._pinned_outputs, strict=True)):
            shape, target = self._plan.outputs[index][0], targets[index]
            if shape is None:
                results.append(on_cpu[index])
                continue
            if target is None:
                target = np.empty((rows, *shape) if self._plan.rows_vary else shape, self._dtypes[index])
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
                nbytes = max(row_bytes(shape, dtype) * (wanted if self._plan.rows_vary else 1), 1)
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
