"""How long each launch of a bucket takes by itself: for tuning, and for the roofline of an engine on this GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trine.runtime.cuda.gpu_driver import GpuDriver
from trine.runtime.cuda.parameters import Addresses, pack_parameters
from trine.runtime.cuda.plan import Bucket, Kernel, LaunchRecord

__all__ = ["launch_times"]

_REPEATS = 20  # one after another in a graph: what launching costs is spread over them


def launch_times(
    driver: GpuDriver,
    bucket: Bucket,
    kernels: Sequence[Kernel],
    functions: Sequence[Any],
    addresses: Addresses,
    stream: Any,
) -> list[float]:
    """Microseconds for each launch, in the bucket's order, the later of two measurements.

    A launch is repeated over the same operands: what fits the L2 cache is read from there, unlike within the network.
    Each begins with what those before it have written, so that indices are never out of range.
    """
    before, after = driver.event(timing=True), driver.event(timing=True)
    times = []
    try:
        for record in bucket.launches:
            graph = driver.graph()
            executable = None
            try:
                executable = _repeated(driver, graph, record, kernels[record.kernel], functions, addresses)
                for _ in range(2):  # the first one loads the kernel
                    driver.record(before, stream)
                    driver.launch(executable, stream)
                    driver.record(after, stream)
                    driver.synchronize(stream)
                times.append(driver.elapsed_ms(before, after) * 1e3 / _REPEATS)
            finally:
                if executable is not None:
                    driver.destroy_executable(executable)
                driver.destroy_graph(graph)
    finally:
        driver.destroy_event(before)
        driver.destroy_event(after)
    return times


def _repeated(
    driver: GpuDriver,
    graph: Any,
    record: LaunchRecord,
    kernel: Kernel,
    functions: Sequence[Any],
    addresses: Addresses,
) -> Any:
    block = pack_parameters(kernel, record, addresses, driver.encode_tensor_map)
    previous: list[Any] = []
    for _ in range(_REPEATS):
        node = driver.add_kernel(
            graph,
            previous,
            functions[record.kernel],
            record.grid,
            kernel.threads,
            kernel.shared_bytes,
            block,
            kernel.cluster,
        )
        previous = [node]
    return driver.instantiate(graph)
