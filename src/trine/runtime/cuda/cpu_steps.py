"""What a session does between two graphs of launches: arrays to host memory, the CPU's part of the graph, and back."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.errors import DeviceError
from trine.runtime.cuda.gpu_driver import GpuDriver
from trine.runtime.cuda.parameters import Addresses
from trine.runtime.cuda.plan import CpuEdge, CpuStep, CudaPlan
from trine.runtime.executor import Executor, Session

__all__ = ["CpuSteps"]

_ALIGNMENT = 256  # of arrays in pinned memory
Array = np.ndarray[Any, Any]


class CpuSteps:
    """A session's runs of the CPU's parts. ``results``: the last call's outputs whose shapes depend on values."""

    def __init__(self, driver: GpuDriver, plan: CudaPlan, executors: Sequence[Executor]) -> None:
        self._driver, self._plan = driver, plan
        self._sessions: list[Session] = [executor.open_session() for executor in executors]
        self._taken, self._given = _Pinned(driver), _Pinned(driver)
        self._slots: dict[int, Array] = {}
        self.results: dict[int, Array] = {}

    def begin(self) -> None:
        """Forget the last call's results."""
        self.results, self._slots = {}, {}

    def run(self, step: CpuStep, bucket_rows: int, addresses: Addresses, stream: Any) -> None:
        """Wait for what is on ``stream``, compute, and queue the copies of the results.

        Raises RuntimeError with the backend's reason, DeviceError where a result has another shape than was planned.
        """
        part = self._plan.cpu_parts[step.part]
        inputs = self._fetch(step, [dtype for _, dtype in part.inputs], bucket_rows, addresses, stream)
        results = self._sessions[step.part].run(inputs, [None] * len(part.outputs))
        uploads: list[tuple[int, Array]] = []
        for edge, (name, dtype), result in zip(step.outputs, part.outputs, results, strict=True):
            kind, number = edge.place
            if kind == "slot":
                self._slots[number] = result
            elif edge.shape is None:
                self.results[number] = result
            else:
                if result.shape != edge.shape or result.dtype != DataType(dtype).numpy:
                    raise DeviceError(
                        f"the CPU's part gave {name!r} as {result.dtype} {result.shape}; the kernels behind it were "
                        f"built for {dtype} {edge.shape}. Build the model for the CPU"
                    )
                whole = kind == "arena" or not self._plan.rows_vary
                uploads.append((_address(edge, addresses), result if whole else result[: addresses.rows]))
        self._upload(uploads, stream)

    def _fetch(
        self, step: CpuStep, dtypes: Sequence[str], bucket_rows: int, addresses: Addresses, stream: Any
    ) -> list[Array]:
        kinds = [DataType(dtype).numpy for dtype in dtypes]
        sizes = [
            0 if edge.shape is None else int(np.prod(edge.shape, dtype=np.int64)) * kind.itemsize
            for edge, kind in zip(step.inputs, kinds, strict=True)
        ]
        places = self._taken.places(sizes, stream)
        for edge, size, place in zip(step.inputs, sizes, places, strict=True):
            if edge.place[0] != "slot":
                # Of the caller's arrays only the call's rows are there.
                callers = edge.place[0] == "input" and self._plan.rows_vary
                there = size // bucket_rows * addresses.rows if callers else size
                self._driver.download(self._taken.address + place, _address(edge, addresses), there, stream)
        self._driver.synchronize(stream)
        arrays = []
        for edge, kind, size, place in zip(step.inputs, kinds, sizes, places, strict=True):
            if edge.place[0] == "slot":
                arrays.append(self._slots[edge.place[1]])
                continue
            assert edge.shape is not None
            array = self._taken.array(place, size).view(kind).reshape(edge.shape)
            if edge.rows is not None and addresses.rows < bucket_rows:
                # What lies there is of an earlier call, or nothing: an index may be out of range.
                axis, factor = edge.rows
                array[(slice(None),) * axis + (slice(addresses.rows * factor, None),)] = 0
            arrays.append(array)
        return arrays

    def _upload(self, uploads: Sequence[tuple[int, Array]], stream: Any) -> None:
        places = self._given.places([array.nbytes for _, array in uploads], stream)
        for (address, array), place in zip(uploads, places, strict=True):
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self._given.array(place, flat.size)[:] = flat
            self._driver.upload(address, self._given.address + place, flat.size, stream)

    def close(self) -> None:
        """Free the pinned memory."""
        self._taken.close()
        self._given.close()
        self._slots, self._sessions = {}, []


class _Pinned:
    """Pinned memory for the arrays of one step, grown when a step needs more than any before."""

    def __init__(self, driver: GpuDriver) -> None:
        self._driver = driver
        self.address = self._nbytes = 0
        self._host: Array = np.empty(0, np.uint8)

    def places(self, sizes: Sequence[int], stream: Any) -> list[int]:
        """Where arrays of these sizes go. ``stream`` may still copy what was there: it is waited for when growing."""
        offsets, end = [], 0
        for size in sizes:
            offsets.append(end)
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        if end > self._nbytes:
            if self.address:
                self._driver.synchronize(stream)
            self.close()
            self.address = self._driver.allocate_pinned(end)
            self._nbytes = end
            self._host = np.ctypeslib.as_array((ctypes.c_uint8 * end).from_address(self.address))
        return offsets

    def array(self, place: int, nbytes: int) -> Array:
        """Its bytes."""
        return self._host[place : place + nbytes]

    def close(self) -> None:
        """Free it; it can be made again."""
        if self.address:
            address, self.address, self._nbytes = self.address, 0, 0
            self._host = np.empty(0, np.uint8)
            self._driver.free_pinned(address)


def _address(edge: CpuEdge, addresses: Addresses) -> int:
    kind, number = edge.place
    if kind == "arena":
        return addresses.arena + number
    return (addresses.inputs if kind == "input" else addresses.outputs)[number]
