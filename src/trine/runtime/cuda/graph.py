"""Launches as a CUDA graph: which must wait for which, and how a few graphs serve changing callers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from trine.errors import DeviceError
from trine.runtime.cuda.gpu_driver import GpuDriver
from trine.runtime.cuda.parameters import Addresses, is_edge, pack_parameters
from trine.runtime.cuda.plan import Kernel, LaunchRecord

__all__ = ["KEPT", "BucketGraph", "GraphsOfBucket", "dependencies", "early_starts"]

# A caller that goes round a few sets of buffers finds a graph for each; past that, the one longest unused is changed.
KEPT = 8


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


def early_starts(waits: Sequence[Sequence[int]], can_wait: Sequence[bool]) -> list[bool]:
    """Which launches may be started before those that they wait for have ended.

    ``waits``: as ``dependencies`` gives it; ``can_wait``: whether a launch's kernel waits by itself. Chains only: what
    one launch waits for, and nothing else does. A launch that waited has ended after all that it waited for, so that
    what was left out of ``waits``, as it follows from others, still holds.
    """
    waiting = [0] * len(waits)
    for before in waits:
        for index in before:
            waiting[index] += 1
    return [able and len(before) == 1 and waiting[before[0]] == 1 for before, able in zip(waits, can_wait, strict=True)]


class BucketGraph:
    """An executable graph. ``run`` sets what depends on the call only when it has changed since the last."""

    def __init__(
        self,
        driver: GpuDriver,
        launches: Sequence[LaunchRecord],
        kernels: Sequence[Kernel],
        functions: Sequence[Any],
        waits: Sequence[Sequence[int]],
        addresses: Addresses,
        early: bool = False,
    ) -> None:
        """``functions``: the driver's handle for each kernel, loaded for those that the launches use. ``waits``: what
        ``dependencies`` gives for the launches. ``early``: start launches early where they can wait."""
        self._driver, self._kernels, self._functions = driver, kernels, functions
        self._addresses: Addresses | None = addresses
        self._edges: list[tuple[LaunchRecord, Any]] = []
        self._graph = driver.graph()
        try:
            self._fill(launches, waits, addresses, early)
            self._executable = driver.instantiate(self._graph)
        except DeviceError:
            driver.destroy_graph(self._graph)
            raise

    def _fill(
        self, launches: Sequence[LaunchRecord], waits: Sequence[Sequence[int]], addresses: Addresses, early: bool
    ) -> None:
        driver = self._driver
        nodes: list[Any] = []
        starts = early_starts(waits, [early and self._kernels[record.kernel].waits for record in launches])
        for record, before, start in zip(launches, waits, starts, strict=True):
            kernel = self._kernels[record.kernel]
            block = pack_parameters(kernel, record, addresses, driver.encode_tensor_map)
            node = driver.add_kernel(
                self._graph,
                [nodes[index] for index in before],
                self._functions[record.kernel],
                record.grid,
                kernel.threads,
                kernel.shared_bytes,
                block,
                kernel.cluster,
                start,
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


class GraphsOfBucket:
    """A session's graphs of one bucket, or of one of its segments, each found by what it was last launched with."""

    def __init__(self, make: Callable[[Addresses], BucketGraph], kept: int = KEPT) -> None:
        self._make, self._kept = make, kept
        self._graphs: OrderedDict[Addresses, BucketGraph] = OrderedDict()

    def find(self, addresses: Addresses) -> BucketGraph:
        """The graph for these addresses; else a new one, or the one longest unused, which its ``run`` will change."""
        graph = self._graphs.get(addresses)
        if graph is not None:
            self._graphs.move_to_end(addresses)
            return graph
        graph = self._make(addresses) if len(self._graphs) < self._kept else self._graphs.popitem(last=False)[1]
        self._graphs[addresses] = graph
        return graph

    def close(self) -> None:
        """Free them all; they can be made again."""
        graphs = list(self._graphs.values())
        self._graphs.clear()
        for graph in graphs:
            graph.close()
