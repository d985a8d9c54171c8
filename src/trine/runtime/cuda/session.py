"""CudaSession: one caller's memory and stream over an executor's kernels and weights."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trine.errors import DeviceError, DeviceLostError, InputError
from trine.runtime.cuda.cpu_steps import CpuSteps
from trine.runtime.cuda.graph import KEPT, GraphsOfBucket
from trine.runtime.cuda.held import Held
from trine.runtime.cuda.launch_times import launch_times
from trine.runtime.cuda.parameters import Addresses
from trine.runtime.cuda.staging import Staging, row_bytes
from trine.runtime.executor import ENGINE_CLOSED

if TYPE_CHECKING:
    from trine.runtime.cuda.executor import CudaExecutor

__all__ = ["CudaSession"]


class CudaSession:
    """One caller's activations, staging memory and stream. Not to be shared between threads at one time.

    The arena, where activations lie, is as large as the buckets used so far need.
    """

    writes_in_place = False

    def __init__(self, executor: CudaExecutor) -> None:
        """Raises DeviceMemoryError when all buckets are prepared at once and do not fit."""
        self._executor = executor
        self._driver = driver = executor.driver
        self._plan = plan = executor.plan
        self._arena = self._arena_bytes = 0
        self._closed = True  # until there is something to free
        self.stream = driver.stream()
        self._finished = driver.event()  # of the last call, on whichever stream
        self._arrived = driver.event()  # what a call's arrays wait for, on one stream after the other
        self._closed = False
        self._held = Held(driver)
        self._on_own_stream = True  # the last call
        at_once = executor.capture == "build"
        kept = 1 if at_once else KEPT  # one that is there is changed sooner than another is made
        self._graphs = [
            [
                GraphsOfBucket(partial(executor.new_graph, index, segment), kept) if launches else None
                for segment, launches in enumerate(executor.segments(index))
            ]
            for index in range(len(plan.buckets))
        ]
        self._cpu = CpuSteps(driver, plan, executor.cpu_parts)
        self._staging = Staging(driver, plan, executor.outputs)
        if at_once:
            try:
                self.capture()
            except BaseException:
                self.close()
                raise

    @property
    def ordinal(self) -> int:
        """Which GPU: 0 for cuda:0."""
        return self._driver.ordinal

    @property
    def outputs_on_host(self) -> frozenset[int]:
        """Positions of the outputs that the CPU gives, in host memory: their shapes depend on values."""
        return frozenset(index for index, (shape, _) in enumerate(self._plan.outputs) if shape is None)

    def _check_open(self) -> None:
        if self._closed:  # then neither the engine's weights nor the session's memory are there
            raise InputError(ENGINE_CLOSED)

    def check_stream(self, handle: int) -> None:
        """Raises InputError when ``run_device`` cannot put a call on this stream: it is of another GPU or context, or
        being captured into a CUDA graph; or when the engine is closed."""
        self._check_open()
        if handle != int(self.stream):
            with self._driver.current:
                self._driver.check_stream(self._driver.as_stream(handle))

    def device_of(self, address: int) -> int | None:
        """See GpuDriver."""
        with self._driver.current:
            return self._driver.device_of(address)

    def rows_of(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """How many rows a call with these input shapes has. Raises InputError when inputs disagree."""
        if not self._plan.rows_vary:
            return self._plan.buckets[0].rows
        counts = {shape[0] for shape in shapes}
        if len(counts) != 1:
            raise InputError(f"inputs have {sorted(counts)} rows; they must agree")
        return counts.pop()

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See Session: NumPy through pinned memory. Returns when the answers are there."""
        self._check_open()
        with self._driver.current:
            rows = self.rows_of([array.shape for array in inputs])
            self._staging.send(inputs, rows, self.stream)
            self.run_device(self._staging.inputs, self._staging.outputs, rows, None)
            return self._staging.fetch(outputs, rows, self.stream, self._cpu.results)

    def run_device(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        rows: int,
        stream: Any,
        after: Collection[int] = (),
        held: Sequence[Any] = (),
    ) -> None:
        """Queue a call on ``stream`` (a handle that ``check_stream`` lets pass; None: the session's), on device memory
        at these addresses, behind what is on the streams ``after``. ``held`` is kept until the call is done.

        Returns at once, or when the CPU has done its part, where the plan leaves it one. More rows than the largest
        bucket are answered piece by piece.

        Raises DeviceMemoryError when the activations do not fit, RuntimeError when the CPU's part fails, InputError
        when the engine is closed or another GPU has one of the streams ``after``.
        """
        with self._driver.current:
            stream = self._begin(stream, after)
            self._held.release()
            self._cpu.begin()
            try:
                done = 0
                while done < rows:
                    count = min(rows - done, self._plan.buckets[-1].rows)
                    index = self._bucket_for(count)
                    self._wait_for_arena(self._plan.buckets[index].arena_bytes, stream)
                    addresses = self._addresses(
                        _advanced(inputs, self._plan.inputs, done), _advanced(outputs, self._plan.outputs, done), count
                    )
                    self._run_bucket(index, addresses, stream)
                    done += count
            finally:  # also of a call of which only some pieces began
                self._driver.record(self._finished, stream)
                if held:
                    self._held.keep(held, stream)

    def _run_bucket(self, index: int, addresses: Addresses, stream: Any) -> None:
        bucket = self._plan.buckets[index]
        for segment, graphs in enumerate(self._graphs[index]):
            if segment:
                self._cpu.run(bucket.cpu_steps[segment - 1], bucket.rows, addresses, stream)
            if graphs is not None:
                graphs.find(addresses).run(addresses, stream)

    def _begin(self, stream: Any, after: Collection[int] = ()) -> Any:
        """The stream as the driver has it; it waits for the call before, and for the streams ``after``."""
        self._check_open()
        driver = self._driver
        handle = int(self.stream if stream is None else stream)
        others = [driver.as_stream(other) for other in after if other != handle]
        for other in others:
            driver.check_stream(other)
        if handle == int(self.stream):
            stream = self.stream
            if not self._on_own_stream:
                driver.wait(stream, self._finished)
                self._on_own_stream = True
        else:
            stream = driver.as_stream(handle)
            # Even for the stream of the call before: it may be another one by now that was given the same handle.
            driver.wait(stream, self._finished)
            self._on_own_stream = False
        for other in others:
            driver.record(self._arrived, other)
            driver.wait(stream, self._arrived)
        return stream

    def _wait_for_arena(self, nbytes: int, stream: Any) -> None:
        """Grow the arena to ``nbytes``, which forgets all graphs: their addresses are of the old one."""
        if self._arena and nbytes <= self._arena_bytes:
            return
        driver = self._driver
        if self._arena:
            driver.record(self._finished, stream)
            self.synchronize()
            self._close_graphs()
            old, self._arena = self._arena, 0
            driver.free(old)
        self._arena = driver.allocate(nbytes, "a context's activations")
        self._arena_bytes = nbytes
        driver.fill(self._arena, 0, nbytes, stream)

    def _close_graphs(self) -> None:
        for segments in self._graphs:
            for graphs in segments:
                if graphs is not None:
                    graphs.close()

    def _bucket_for(self, rows: int) -> int:
        return next(
            (index for index, bucket in enumerate(self._plan.buckets) if bucket.rows >= rows),
            len(self._plan.buckets) - 1,
        )

    def _addresses(self, inputs: Sequence[int], outputs: Sequence[int], rows: int) -> Addresses:
        return Addresses(self._arena, self._executor.weights, tuple(inputs), tuple(outputs), rows)

    def synchronize(self) -> None:
        """Wait for everything that the session was given, on whichever stream."""
        with self._driver.current:
            self._driver.wait(self.stream, self._finished)
            self._driver.synchronize(self.stream)
            self._held.release()

    def capture(self) -> None:
        """Answer zeros with every bucket now: then its kernels, graph and all memory are there at its first call."""
        with self._driver.current:
            self._wait_for_arena(self._executor.arena_bytes, self._begin(None))
            self._staging.clear(self._plan.buckets[-1].rows, self.stream)
            for bucket in self._plan.buckets:
                self.run_device(self._staging.inputs, self._staging.outputs, bucket.rows, None)
            self.synchronize()

    def poison(self, byte: int = 0xFF) -> None:
        """Fill the arena, by default with NaN: what a call reads without having written shows in its answer."""
        with self._driver.current:
            stream = self._begin(None)
            self._wait_for_arena(self._executor.arena_bytes, stream)
            self._driver.fill(self._arena, byte, self._arena_bytes, stream)
            self._driver.record(self._finished, stream)

    def time_launches(self, rows: int) -> list[float]:
        """Microseconds for each launch of the bucket that answers ``rows`` rows, each repeated by itself.

        Inputs are zeros.
        """
        with self._driver.current:
            index = self._bucket_for(rows)
            bucket = self._plan.buckets[index]
            self._staging.clear(bucket.rows, self.stream)
            self.run_device(self._staging.inputs, self._staging.outputs, bucket.rows, None)
            addresses = self._addresses(self._staging.inputs, self._staging.outputs, bucket.rows)
            functions = self._executor.functions(bucket)
            return launch_times(self._driver, bucket, self._plan.kernels, functions, addresses, self.stream)

    def time_calls(self, rows: int, calls: int) -> float:
        """Microseconds of the GPU for a call of ``rows`` rows, on whatever the inputs hold; ``calls`` are queued one
        behind the other, so that what it costs to queue one does not show."""
        driver = self._driver
        with driver.current:
            before, after = driver.event(timing=True), driver.event(timing=True)
            try:
                driver.record(before, self.stream)
                for _ in range(calls):
                    self.run_device(self._staging.inputs, self._staging.outputs, rows, None)
                driver.record(after, self.stream)
                driver.synchronize(self.stream)
                return driver.elapsed_ms(before, after) * 1e3 / calls
            finally:
                driver.destroy_event(before)
                driver.destroy_event(after)

    def close(self) -> None:
        """Free the session's memory, once what it was given has run."""
        if self._closed:
            return
        self._closed = True
        driver = self._driver
        with contextlib.suppress(DeviceLostError), driver.current:  # lost: then there is nothing left to free
            self.synchronize()
            self._held.close()
            self._close_graphs()
            self._cpu.close()
            self._staging.close()
            if self._arena:
                driver.free(self._arena)
                self._arena = 0
            driver.destroy_event(self._finished)
            driver.destroy_event(self._arrived)
            driver.destroy_stream(self.stream)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not sys.is_finalizing():
            with contextlib.suppress(DeviceError):
                self.close()


def _advanced(
    addresses: Sequence[int], shapes: Sequence[tuple[tuple[int, ...] | None, str]], rows: int
) -> Sequence[int]:
    """Where the row after ``rows`` rows begins in each."""
    if rows == 0:
        return addresses
    return [address + rows * row_bytes(shape, dtype) for address, (shape, dtype) in zip(addresses, shapes, strict=True)]
