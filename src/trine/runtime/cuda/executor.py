"""CudaExecutor: an engine's kernels and weights on one GPU, shared by all sessions."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import (
    ConfigError,
    DeviceError,
    DeviceLostError,
    DeviceMemoryError,
    EngineFormatError,
    NoDeviceError,
)
from trine.runtime.cuda.architectures import remedy, runnable
from trine.runtime.cuda.cpu_parts import open_part
from trine.runtime.cuda.driver import Driver
from trine.runtime.cuda.gpu_driver import GpuDriver
from trine.runtime.cuda.graph import BucketGraph, dependencies
from trine.runtime.cuda.parameters import Addresses
from trine.runtime.cuda.plan import Bucket, CudaPlan, cuda_plan_name
from trine.runtime.cuda.session import CudaSession
from trine.runtime.executor import Executor

__all__ = ["CudaExecutor"]

log = logging.getLogger(__name__)


class CudaExecutor:
    """A plan on a GPU. ``driver``: its Driver, if there is one already, which it closes in the end; ``device`` is its
    ordinal then.

    ``capture``: when a session makes the CUDA graph of a bucket: at the bucket's "first_use", or all of them when the
    session is opened ("build"), each launched once, which takes the memory of the largest at once.
    """

    def __init__(
        self,
        plan: CudaPlan,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        device: int = 0,
        driver: GpuDriver | None = None,
        capture: Literal["first_use", "build"] = "first_use",
        graph: PortableGraph | None = None,
    ) -> None:
        """Upload the weights; kernels are loaded when first needed.

        Raises NoDeviceError for another architecture than the plan's, DeviceMemoryError when the weights do not fit,
        ConfigError for an unknown ``capture``, BuildError and MissingDependencyError when nothing here computes what
        the plan leaves to the CPU.
        """
        if capture not in ("first_use", "build"):
            raise ConfigError(f'capture: {capture!r} is unknown; allowed: "first_use", "build"')
        self.weights = 0
        self._closed = True  # until there is something to close
        self.plan, self.capture = plan, capture
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._modules: dict[int, Any] = {}
        self._functions: list[Any] = [None] * len(plan.kernels)
        self._waits: dict[tuple[int, int], list[list[int]]] = {}
        self._segments = [bucket.segments() for bucket in plan.buckets]
        self.cpu_parts: list[Executor] = []
        self._can_start_early = True
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[CudaSession] = weakref.WeakSet()
        self.driver: GpuDriver = driver if driver is not None else Driver(device)
        self._closed = False
        try:
            if not runnable([plan.target], self.driver.capability):
                raise NoDeviceError(
                    f"cuda:{device} is an sm_{self.driver.capability}, and the engine's kernels are for "
                    f"{plan.target}; {remedy(self.driver.capability)}"
                )
            self.cpu_parts.extend(open_part(part, threads=0) for part in plan.cpu_parts)
            with self.driver.current:
                self._upload_weights(_arranged(plan, graph))
        except BaseException:
            self.close()
            raise

    def _upload_weights(self, arrays: Sequence[tuple[int, np.ndarray[Any, Any]]]) -> None:
        driver = self.driver
        self.weights = driver.allocate(self.plan.weight_bytes, "the engine's weights")
        stream = driver.stream()
        driver.fill(self.weights, 0, self.plan.weight_bytes, stream)  # what lies between them too
        for offset, host in arrays:
            driver.upload(self.weights + offset, int(host.ctypes.data), host.nbytes, stream)
        driver.synchronize(stream)
        driver.destroy_stream(stream)

    @property
    def device(self) -> str:
        """As ``load`` takes it: "cuda:0"."""
        return f"cuda:{self.driver.ordinal}"

    @property
    def arena_bytes(self) -> int:
        """What a session needs for the activations of its largest bucket."""
        return max((bucket.arena_bytes for bucket in self.plan.buckets), default=0)

    def functions(self, bucket: Bucket) -> Sequence[Any]:
        """The handle of every kernel; those that ``bucket`` uses are loaded."""
        with self._lock:
            for index in sorted({record.kernel for record in bucket.launches}):
                if self._functions[index] is None:
                    kernel = self.plan.kernels[index]
                    if index not in self._modules:
                        self._modules[index] = self.driver.load_module(bytes(kernel.cubin))
                    self._functions[index] = self.driver.function(
                        self._modules[index], kernel.symbol, kernel.shared_bytes
                    )
        return self._functions

    def segments(self, bucket_index: int) -> list[int]:
        """How many launches there are before, between and after the steps that the CPU takes."""
        return [len(launches) for launches in self._segments[bucket_index]]

    def new_graph(self, bucket_index: int, segment: int, addresses: Addresses) -> BucketGraph:
        """A graph of a bucket's launches, of those between two of the CPU's steps."""
        launches = self._segments[bucket_index][segment]
        functions = self.functions(self.plan.buckets[bucket_index])
        key = (bucket_index, segment)
        if key not in self._waits:
            self._waits[key] = dependencies(launches)
        given = (self.driver, launches, self.plan.kernels, functions, self._waits[key], addresses)
        if self.plan.buckets[bucket_index].early and self._can_start_early:
            try:
                return BucketGraph(*given, early=True)
            except (DeviceLostError, DeviceMemoryError):
                raise
            except DeviceError as err:  # built with a newer driver than this one
                self._can_start_early = False
                log.info("launches do not start early: %s", err)
        return BucketGraph(*given)

    def open_session(self) -> CudaSession:
        """A line of execution with memory and a stream of its own."""
        with self.driver.current:
            session = CudaSession(self)
        with self._lock:
            self._sessions.add(session)
        return session

    def close(self) -> None:
        """Free everything, sessions included, and let go of the GPU. Once is enough."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            sessions, modules, weights = list(self._sessions), list(self._modules.values()), self.weights
            self._modules.clear()
            self._functions = [None] * len(self.plan.kernels)
            self.weights = 0
        with contextlib.suppress(DeviceLostError), self.driver.current:  # lost: then there is nothing left to free
            for session in sessions:
                session.close()
            for module in modules:
                self.driver.unload_module(module)
            if weights:
                self.driver.free(weights)
        with contextlib.suppress(DeviceLostError):
            self.driver.close()
        parts, self.cpu_parts = self.cpu_parts, []
        for part in parts:
            part.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not sys.is_finalizing():
            with contextlib.suppress(DeviceError):
                self.close()


def _arranged(plan: CudaPlan, graph: PortableGraph | None) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """Where on the device which bytes are to lie. Raises EngineFormatError where the graph has not what is shared."""
    weights = {} if graph is None else {weight.name: weight for weight in graph.weights}
    found = [(offset, np.frombuffer(own, np.uint8)) for offset, own in plan.stretches()]
    for shared in plan.shared:
        weight = weights.get(shared.name)
        if weight is None or weight.nbytes != shared.nbytes or weight.array.size != math.prod(shared.shape):
            raise EngineFormatError(
                f"weight {shared.name!r} of {shared.nbytes} bytes is not the graph's; build the engine again",
                f"plan/{cuda_plan_name(plan.target)}",
            )
        arranged = weight.array.reshape(shared.shape).transpose(shared.axes)
        found.append((shared.offset, np.ascontiguousarray(arranged)))
    return found
