"""CudaExecutor: an engine's kernels and weights on one GPU, shared by all sessions; and the sessions themselves."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from trine.engine.manifest import TensorInfo
from trine.errors import DeviceError, DeviceLostError, InputError, NoDeviceError
from trine.runtime.cuda.driver import Driver
from trine.runtime.cuda.graph import BucketGraph
from trine.runtime.cuda.parameters import Addresses
from trine.runtime.cuda.plan import Bucket, CudaPlan
from trine.runtime.cuda.staging import Staging

__all__ = ["CudaExecutor", "CudaSession"]

# A caller that goes round a few sets of buffers finds a graph for each; past that, the one longest unused is changed.
_GRAPHS_KEPT = 8


class CudaExecutor:
    """A plan on a GPU. ``driver``: its Driver, if there is one already; ``device`` is its ordinal then."""

    def __init__(
        self,
        plan: CudaPlan,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        device: int = 0,
        driver: Any = None,
    ) -> None:
        """Upload the weights; kernels are loaded when first needed.

        Raises NoDeviceError for another architecture than the plan's, DeviceMemoryError when the weights do not fit.
        """
        self.plan = plan
        self.driver = driver if driver is not None else Driver(device)
        if f"sm_{self.driver.capability}" != plan.target:
            raise NoDeviceError(
                f"cuda:{device} is an sm_{self.driver.capability}, and the engine's kernels are for {plan.target}; "
                f'build it with target="sm_{self.driver.capability}", or load it with device="cpu"'
            )
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._modules: dict[int, Any] = {}
        self._functions: list[Any] = [None] * len(plan.kernels)
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[CudaSession] = weakref.WeakSet()
        weights = memoryview(plan.weights).cast("B")
        self.weights = self.driver.allocate(weights.nbytes, "the engine's weights")
        if weights.nbytes:
            stream = self.driver.stream()
            host = np.frombuffer(weights, np.uint8)
            self.driver.upload(self.weights, int(host.ctypes.data), weights.nbytes, stream)
            self.driver.synchronize(stream)
            self.driver.destroy_stream(stream)

    @property
    def device(self) -> str:
        """As ``load`` takes it: "cuda:0"."""
        return f"cuda:{self.driver.ordinal}"

    @property
    def arena_bytes(self) -> int:
        """What a session needs for activations."""
        return max((bucket.arena_bytes for bucket in self.plan.buckets), default=0)

    def functions(self, bucket: Bucket) -> Sequence[Any]:
        """The handle of every kernel; those that ``bucket`` uses are loaded."""
        with self._lock:
            for index in sorted({record.kernel for record in bucket.launches}):
                if self._functions[index] is None:
                    kernel = self.plan.kernels[index]
                    module = self.driver.load_module(bytes(kernel.cubin))
                    self._modules[index] = module
                    self._functions[index] = self.driver.function(module, kernel.symbol, kernel.shared_bytes)
        return self._functions

    def open_session(self) -> CudaSession:
        """A line of execution with memory and a stream of its own."""
        self.driver.activate()
        session = CudaSession(self)
        with self._lock:
            self._sessions.add(session)
        return session

    def close(self) -> None:
        """Free everything, sessions included."""
        with self._lock:
            sessions, modules, weights = list(self._sessions), list(self._modules.values()), self.weights
            self._modules.clear()
            self._functions = [None] * len(self.plan.kernels)
            self.weights = 0
        with contextlib.suppress(DeviceLostError):  # then there is nothing left to free
            self.driver.activate()
            for session in sessions:
                session.close()
            for module in modules:
                self.driver.unload_module(module)
            if weights:
                self.driver.free(weights)


class CudaSession:
    """One caller's activations, staging memory and stream. Not to be shared between threads at one time."""

    writes_in_place = False

    def __init__(self, executor: CudaExecutor) -> None:
        self._executor = executor
        self._driver = driver = executor.driver
        self._plan = executor.plan
        self._closed = True  # until there is something to free
        self._arena = driver.allocate(executor.arena_bytes, "a context's activations")
        self.stream = driver.stream()
        self._finished = driver.event()
        driver.fill(self._arena, 0, executor.arena_bytes, self.stream)
        driver.record(self._finished, self.stream)
        self._last_stream = int(self.stream)
        self._graphs: OrderedDict[tuple[int, Addresses], BucketGraph] = OrderedDict()
        self._staging = Staging(driver, self._plan, executor.outputs)
        self._closed = False

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See Session: NumPy through pinned memory. Returns when the answers are there."""
        self._driver.activate()
        rows = self.rows_of([array.shape for array in inputs])
        self._staging.send(inputs, rows, self.stream)
        self.run_device(self._staging.inputs, self._staging.outputs, rows, self.stream)
        return self._staging.fetch(outputs, rows, self.stream)

    def rows_of(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """How many rows a call with these input shapes has. Raises InputError when inputs disagree."""
        if not self._plan.rows_vary:
            return self._plan.buckets[0].rows
        counts = {shape[0] for shape in shapes}
        if len(counts) != 1:
            raise InputError(f"inputs have {sorted(counts)} rows; they must agree")
        return counts.pop()

    @property
    def ordinal(self) -> int:
        """Which GPU: 0 for cuda:0."""
        return int(self._driver.ordinal)

    def synchronize(self) -> None:
        """Wait for everything that the session was given, on whichever stream."""
        self._driver.activate()
        self._driver.wait(self.stream, self._finished)
        self._driver.synchronize(self.stream)

    def run_device(self, inputs: Sequence[int], outputs: Sequence[int], rows: int, stream: Any) -> None:
        """Queue a call on ``stream`` (a handle; None: the session's own), on device memory at these addresses.

        Returns at once. More rows than the largest bucket are answered piece by piece.
        """
        driver = self._driver
        driver.activate()
        stream = self.stream if stream is None else driver.as_stream(stream) if isinstance(stream, int) else stream
        handle = int(stream)
        if handle != self._last_stream:
            driver.wait(stream, self._finished)  # the arena is still the other stream's
        largest = self._plan.buckets[-1].rows
        done = 0
        while done < rows:
            count = min(rows - done, largest)
            bucket_index = next(i for i, bucket in enumerate(self._plan.buckets) if bucket.rows >= count)
            addresses = Addresses(
                self._arena,
                self._executor.weights,
                self._advanced(inputs, self._plan.inputs, done),
                self._advanced(outputs, self._plan.outputs, done),
                count,
            )
            self._graph(bucket_index, addresses).run(addresses, stream)
            done += count
        driver.record(self._finished, stream)
        self._last_stream = handle

    def capture(self, addresses: Addresses | None = None) -> None:
        """Make every bucket's graph now rather than at its first call."""
        for index, bucket in enumerate(self._plan.buckets):
            filler = addresses or Addresses(
                self._arena,
                self._executor.weights,
                (self._arena,) * len(self._plan.inputs),
                (self._arena,) * len(self._plan.outputs),
                bucket.rows,
            )
            self._graph(index, filler)

    def _advanced(
        self, addresses: Sequence[int], shapes: Sequence[tuple[tuple[int, ...], str]], rows: int
    ) -> tuple[int, ...]:
        if rows == 0:
            return tuple(addresses)
        return tuple(
            address + rows * row_bytes(shape, dtype) for address, (shape, dtype) in zip(addresses, shapes, strict=True)
        )

    def _graph(self, bucket_index: int, addresses: Addresses) -> BucketGraph:
        key = (bucket_index, addresses)
        graph = self._graphs.get(key)
        if graph is not None:
            self._graphs.move_to_end(key)
            return graph
        same_bucket = [other for other in self._graphs if other[0] == bucket_index]
        if len(same_bucket) >= _GRAPHS_KEPT:
            graph = self._graphs.pop(same_bucket[0])
        else:
            bucket = self._plan.buckets[bucket_index]
            functions = self._executor.functions(bucket)
            graph = BucketGraph(self._driver, bucket, self._plan.kernels, functions, addresses)
        self._graphs[key] = graph
        return graph

    def close(self) -> None:
        """Free the session's memory, once what it was given has run."""
        if self._closed:
            return
        self._closed = True
        driver = self._driver
        with contextlib.suppress(DeviceLostError):  # then there is nothing left to free
            self.synchronize()
            for graph in self._graphs.values():
                graph.close()
            self._graphs.clear()
            self._staging.close()
            driver.free(self._arena)
            driver.destroy_event(self._finished)
            driver.destroy_stream(self.stream)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not sys.is_finalizing():
            with contextlib.suppress(DeviceError):
                self.close()


def row_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of one row."""
    from trine.runtime.cuda.staging import item_bytes

    return int(np.prod(shape, dtype=np.int64)) * item_bytes(dtype)
