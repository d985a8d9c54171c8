"""A bucket's launches as a CUDA graph: which must wait for which, and how one graph serves changing callers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trine.errors import DeviceError
from trine.runtime.cuda.parameters import Addresses, is_edge, pack_parameters
from trine.runtime.cuda.plan import Bucket, Kernel, LaunchRecord

__all__ = ["BucketGraph", "dependencies"]


def dependencies(launches: Sequence[LaunchRecord]) -> list[list[int]]:
    """For each launch, those before it that it must wait for.

    Two launches keep their order when one writes what the other reads or writes. What follows from others is left
    out: a launch that waits for B, which waits for A, does not list A.
    """
    found: list[list[int]] = []
    before: list[int] = []  # for each launch a bit mask of all that happens before it
    for index, launch in enumerate(launches):
        waits: list[int] = []
        reached = 0
        for other in range(index - 1, -1, -1):
            if not reached >> other & 1 and _conflict(launches[other], launch):
                waits.append(other)
                reached |= before[other] | 1 << other
        found.append(waits)
        before.append(reached)
    return found


def _conflict(first: LaunchRecord, second: LaunchRecord) -> bool:
    return (
        _overlap(first.writes, second.reads)
        or _overlap(first.reads, second.writes)
        or _overlap(first.writes, second.writes)
    )


def _overlap(some: Sequence[tuple[str, int, int]], others: Sequence[tuple[str, int, int]]) -> bool:
    return any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in some for b in others)


class BucketGraph:
    """An executable graph. ``run`` sets what depends on the call only when it has changed since the last."""

    def __init__(
        self, driver: Any, bucket: Bucket, kernels: Sequence[Kernel], functions: Sequence[Any], addresses: Addresses
    ) -> None:
        """``functions``: the driver's handle for each kernel, loaded for those that the bucket uses."""
        self._driver, self._bucket, self._kernels, self._functions = driver, bucket, kernels, functions
        self._addresses: Addresses | None = addresses
        self._edges: list[tuple[LaunchRecord, Any]] = []
        self._graph = driver.graph()
        try:
            self._fill(addresses)
            self._executable = driver.instantiate(self._graph)
        except DeviceError:
            driver.destroy_graph(self._graph)
            raise

    def _fill(self, addresses: Addresses) -> None:
        driver, bucket, kernels, functions = self._driver, self._bucket, self._kernels, self._functions
        nodes: list[Any] = []
        for record, waits in zip(bucket.launches, dependencies(bucket.launches), strict=True):
            kernel = kernels[record.kernel]
            block = pack_parameters(kernel, record, addresses, driver.encode_tensor_map)
            node = driver.add_kernel(
                self._graph,
                [nodes[index] for index in waits],
                functions[record.kernel],
                record.grid,
                kernel.threads,
                kernel.shared_bytes,
                block,
            )
            nodes.append(node)
            if is_edge(record):
                self._edges.append((record, node))

    def run(self, addresses: Addresses, stream: Any) -> None:
        """Launch on ``stream`` with the caller's ``addresses``."""
        if addresses != self._addresses:
            self._addresses = None  # should an update be refused, the next call has to begin again
            for record, node in self._edges:
                kernel = self._kernels[record.kernel]
                block = pack_parameters(kernel, record, addresses, self._driver.encode_tensor_map)
                self._driver.update_kernel(
                    self._executable,
                    node,
                    self._functions[record.kernel],
                    record.grid,
                    kernel.threads,
                    kernel.shared_bytes,
                    block,
                )
            self._addresses = addresses
        self._driver.launch(self._executable, stream)

    def close(self) -> None:
        """Free the graph."""
        self._driver.destroy_executable(self._executable)
        self._driver.destroy_graph(self._graph)
