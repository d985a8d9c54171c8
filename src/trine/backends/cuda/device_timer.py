"""Times a group's launches on the GPU that is here, as they would run inside of an engine."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trine.backends.cuda.cost import floor_us
from trine.backends.cuda.groups import ITEM_BYTES, Buffer, Group
from trine.backends.cuda.records import tensor_map_record
from trine.backends.cuda.tactic import Argument, Launch, Pointer, Rows, Scalar, Scratch, TensorMap
from trine.backends.cuda.target import TARGETS
from trine.errors import DeviceError, DeviceLostError, DeviceMemoryError, NoDeviceError
from trine.runtime.cuda.driver import Driver
from trine.runtime.cuda.parameters import Addresses, pack_parameters
from trine.runtime.cuda.plan import Kernel, LaunchRecord

__all__ = ["DeviceTimer", "gpu_for_oneself"]

_POOL_BYTES = 6 << 30
_PATTERN_BYTES = 64 << 20
_ALIGNMENT = 256
_HOT_SHARE = 0.25  # of the L2 cache
_SPAN_US = 400.0  # of one measurement, about
_RUNS = 5
_HOPELESS = 1.3  # times slower than the best so far in its first run: not measured again


class DeviceTimer:
    """A pool of random numbers on the device, in which candidates find their operands.

    Launches are chained in a CUDA graph and go round several sets of operands, so that together they exceed the L2
    cache, as the layers of a network do. As inside of an engine, each starts early, where its kernel can wait, and
    fetches the weights of the next; activations that fit the cache are in it, as the launch before has just written
    them: all rounds share them.
    """

    def __init__(self, ordinal: int = 0) -> None:
        """Raises MissingDependencyError, and NoDeviceError, also for an architecture that trine does not know."""
        self.driver = Driver(ordinal)
        self.driver.activate()
        self.target_name = f"sm_{self.driver.capability}"
        if self.target_name not in TARGETS:
            raise NoDeviceError(
                f"{self.driver.name} is an {self.target_name}; CUDA engines can be built for {', '.join(TARGETS)}"
            )
        self.device_name = self.driver.name
        self._target = TARGETS[self.target_name]
        self._stream = self.driver.stream()
        self._events = (self.driver.event(timing=True), self.driver.event(timing=True))
        self._functions: dict[int, tuple[Any, Any, Kernel]] = {}
        free, _ = self.driver.memory()
        self._pool_bytes = min(_POOL_BYTES, free // 2 // _PATTERN_BYTES * _PATTERN_BYTES)
        self._pool = 0  # until something is timed
        self._best: dict[int, float] = {}
        self._early = True

    def _fill_pool(self) -> None:
        self._pool = pool = self.driver.allocate(self._pool_bytes, "the tuner's operands")
        pattern = (np.random.default_rng(0).standard_normal(_PATTERN_BYTES // 2) * 0.5).astype(np.float16)
        self._pattern = pattern
        for offset in range(0, self._pool_bytes, _PATTERN_BYTES):
            self.driver.upload(pool + offset, int(pattern.ctypes.data), _PATTERN_BYTES, self._stream)
        self.driver.synchronize(self._stream)

    def time(self, group: Group, launches: Sequence[Launch], kernels: Sequence[Kernel]) -> float:
        """Microseconds for the group. Raises DeviceMemoryError when its operands exceed the tuner's pool."""
        expected = max(floor_us(group, self._target), 1.0)
        rounds = max(3, min(24, round(_SPAN_US / expected)))
        offsets, apart = self._place(group, launches)
        size = max((offset + buffer.nbytes for buffer, offset in offsets.items()), default=0)
        if size > self._pool_bytes:
            raise DeviceMemoryError(
                f"{group.name}: {size >> 20} MiB of operands, the tuner has {self._pool_bytes >> 20}; "
                "close what else uses the GPU, or build for a smaller batch"
            )
        if not self._pool:
            self._fill_pool()
        wanted = math.ceil(2 * self._target.l2_bytes / max(apart, 1))
        sets = max(1, min(wanted, rounds, (self._pool_bytes - size) // max(apart, 1) + 1))
        indices = self._upload_indices(group, launches, sets)
        graph = self._graph(group, launches, kernels, rounds, sets)
        executable = None
        try:
            executable = self.driver.instantiate(graph)
            return self._measure(executable, id(group), rounds)
        finally:
            if executable is not None:
                self.driver.destroy_executable(executable)
            self.driver.destroy_graph(graph)
            for address, size in indices:
                self.driver.upload(address, int(self._pattern.ctypes.data), size, self._stream)

    def _graph(
        self, group: Group, launches: Sequence[Launch], kernels: Sequence[Kernel], rounds: int, sets: int
    ) -> Any:
        graph = self.driver.graph()
        previous: list[Any] = []
        try:
            for number in range(rounds):
                offsets, _ = self._place(group, launches, number % sets)
                ahead = _largest_weight(group, self._place(group, launches, (number + 1) % sets)[0])
                for launch, kernel in zip(launches, kernels, strict=True):
                    previous = [self._add(graph, previous, launch, kernel, offsets, group, ahead)]
        except DeviceError as err:
            self.driver.destroy_graph(graph)
            if not self._early or isinstance(err, DeviceLostError | DeviceMemoryError):
                raise
            self._early = False  # the driver is too old for it
            return self._graph(group, launches, kernels, rounds, sets)
        return graph

    def _upload_indices(self, group: Group, launches: Sequence[Launch], sets: int) -> list[tuple[int, int]]:
        """Integers of weights are where to read: random ones would read anywhere. Returns (address, bytes) of them."""
        found = []
        for number in range(sets):
            for buffer, offset in self._place(group, launches, number)[0].items():
                if buffer.kind == "weight" and buffer.data is not None and not buffer.dtype.startswith(("fp", "bf")):
                    data = np.ascontiguousarray(buffer.data)
                    self.driver.upload(self._pool + offset, int(data.ctypes.data), data.nbytes, self._stream)
                    self.driver.synchronize(self._stream)
                    found.append((self._pool + offset, min(data.nbytes, _PATTERN_BYTES)))
        return found

    def _measure(self, executable: Any, key: int, rounds: int) -> float:
        with gpu_for_oneself(self.driver.ordinal):
            return self._measure_alone(executable, key, rounds)

    def _measure_alone(self, executable: Any, key: int, rounds: int) -> float:
        driver, (before, after) = self.driver, self._events
        driver.launch(executable, self._stream)
        samples: list[float] = []
        for _ in range(_RUNS):
            driver.record(before, self._stream)
            driver.launch(executable, self._stream)
            driver.record(after, self._stream)
            driver.synchronize(self._stream)
            samples.append(driver.elapsed_ms(before, after) * 1e3 / rounds)
            if samples[0] > _HOPELESS * self._best.get(key, math.inf):
                break
        found = float(np.median(samples))
        self._best[key] = min(found, self._best.get(key, math.inf))
        return found

    def _buffers(self, group: Group, launches: Sequence[Launch]) -> list[Buffer]:
        used = [view.buffer for view in [*group.views(), *group.written()]]
        for launch in launches:
            for argument in launch.arguments:
                if isinstance(argument, Scratch):
                    used.append(argument.buffer)
                elif isinstance(argument, Pointer | TensorMap):
                    used.append(argument.view.buffer)
        return list(dict.fromkeys(used))

    def _place(self, group: Group, launches: Sequence[Launch], number: int = 0) -> tuple[dict[Buffer, int], int]:
        """Where in the pool the buffers of a set lie, and the bytes between one set and the next."""
        buffers = self._buffers(group, launches)
        sizes = {buffer: -(-buffer.nbytes // _ALIGNMENT) * _ALIGNMENT for buffer in buffers}
        activations = [buffer for buffer in buffers if buffer.kind == "arena"]
        if sum(sizes[buffer] for buffer in activations) > _HOT_SHARE * self._target.l2_bytes:
            activations = []
        own = [buffer for buffer in buffers if buffer not in activations]
        apart = sum(sizes[buffer] for buffer in own)
        offsets, end = {}, 0
        for buffer in activations:
            offsets[buffer] = end
            end += sizes[buffer]
        end += number * apart
        for buffer in own:
            offsets[buffer] = end
            end += sizes[buffer]
        return offsets, apart

    def _add(
        self,
        graph: Any,
        previous: Sequence[Any],
        launch: Launch,
        kernel: Kernel,
        offsets: dict[Buffer, int],
        group: Group,
        ahead: tuple[int, int],
    ) -> Any:
        arguments = tuple(_located(argument, offsets, group) for argument in launch.arguments)
        record = LaunchRecord(0, launch.grid, arguments, (), (), 0, ahead)
        block = pack_parameters(kernel, record, Addresses(self._pool, self._pool), self.driver.encode_tensor_map)
        function = self._function(kernel)
        sizes = (launch.grid, kernel.threads, kernel.shared_bytes)
        early = self._early and kernel.waits and bool(previous)
        return self.driver.add_kernel(graph, list(previous), function, *sizes, block, kernel.cluster, early)

    def _function(self, kernel: Kernel) -> Any:
        if id(kernel) not in self._functions:
            module = self.driver.load_module(kernel.cubin)
            function = self.driver.function(module, kernel.symbol, kernel.shared_bytes)
            self._functions[id(kernel)] = (function, module, kernel)
        return self._functions[id(kernel)][0]

    def close(self) -> None:
        """Free the pool and the kernels."""
        for _, module, _ in self._functions.values():
            self.driver.unload_module(module)
        self._functions.clear()
        if self._pool:
            self.driver.free(self._pool)
        for event in self._events:
            self.driver.destroy_event(event)
        self.driver.destroy_stream(self._stream)


@contextlib.contextmanager
def gpu_for_oneself(ordinal: int) -> Iterator[None]:
    """Builds that run side by side take turns in measuring. Where the system has no file locks, they do not."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = Path(tempfile.gettempdir()) / f"trine-timing-gpu{ordinal}.lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file ends the lock


def _largest_weight(group: Group, offsets: dict[Buffer, int]) -> tuple[int, int]:
    """Where it lies in the pool, and its bytes; (0, 0) without one."""
    weights = [view.buffer for view in group.views() if view.buffer.kind == "weight"]
    largest = max(weights, key=lambda each: each.nbytes, default=None)
    return (0, 0) if largest is None else (offsets[largest], largest.nbytes)


def _located(argument: Argument, offsets: dict[Buffer, int], group: Group) -> tuple[Any, ...]:
    """As a LaunchRecord has it, everything in the pool."""
    match argument:
        case Pointer(view):
            return ("arena", offsets[view.buffer] + view.offset * ITEM_BYTES[view.dtype])
        case Scratch(buffer):
            return ("arena", offsets[buffer])
        case Scalar(dtype, value):
            return (dtype, value)
        case Rows(factor):
            return ("i32", group.y.shape[0] * factor)
        case TensorMap(view):
            base = ("arena", offsets[view.buffer] + view.offset * ITEM_BYTES[view.dtype])
            return ("tensormap", tensor_map_record(argument, base))
