"""A stand-in for runtime/cuda's Driver: the device's memory is the host's, and everything is written down.

Kernels are Python functions by symbol, ``kernel(driver, grid, values)``, with the parameters' bytes; a symbol without
one does nothing. A graph runs its nodes in an order drawn at random among those that its edges allow.
"""

from __future__ import annotations

import ctypes
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from runtime.cuda.tensor_map_rules import check_tensor_map

from trine.errors import DeviceLostError, DeviceMemoryError, InputError
from trine.runtime.cuda.borrowed import CAPTURED
from trine.runtime.cuda.parameters import ParameterBlock

Kernel = Callable[["RecordingDriver", tuple[int, int, int], tuple[bytes, ...]], None]


@dataclass
class Node:
    function: Any
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    values: tuple[bytes, ...]
    after: list[Node]
    early: bool = False


@dataclass
class Graph:
    nodes: list[Node] = field(default_factory=list)
    alive: bool = True


@dataclass
class Executable:
    graph: Graph
    nodes: dict[int, Node]
    alive: bool = True


class Handle(int):
    """A stream or an event."""


class RecordingDriver:
    """``capacity``: bytes of device memory, and of pinned memory. ``calls``: every call in order, as (name, ...)."""

    def __init__(
        self, kernels: Mapping[str, Kernel] | None = None, capability: int = 90, capacity: int = 1 << 30, seed: int = 0
    ) -> None:
        self.pinned_capacity = capacity
        self.kernels, self.capability, self.capacity = dict(kernels or {}), capability, capacity
        self.ordinal, self.name = 0, "a recording driver"
        self.shared_bytes = 232448 if capability >= 90 else 101376
        self.device_memory: dict[int, np.ndarray] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.graphs: list[Graph] = []
        self.executables: list[Executable] = []
        self.modules: list[bytes] = []
        self.handles: set[int] = set()
        self.lost = self.busy = False  # busy: whatever was recorded has not happened yet
        self.elsewhere: dict[int, int] = {}  # addresses that other GPUs have
        self.foreign_streams: set[int] = set()
        self.captured_streams: set[int] = set()
        self._threads: list[int] = []  # those whose current GPU this is
        self._random = random.Random(seed)
        self._next_handle = 1000

    # What tests ask.

    def count(self, name: str) -> int:
        """How often a method was called."""
        return sum(1 for call in self.calls if call[0] == name)

    @property
    def used(self) -> int:
        return sum(block.nbytes for block in self.device_memory.values())

    def nothing_is_held(self) -> bool:
        """Whether all that was made has been freed."""
        alive = [*self.graphs, *self.executables]
        made = (self.device_memory, self.pinned, self.handles, self.modules)
        return not any(made) and not any(each.alive for each in alive)

    def array(self, address: int, dtype: Any, count: int) -> np.ndarray:
        """Device memory as an array. It must lie within one allocation."""
        nbytes = np.dtype(dtype).itemsize * count
        self._check(address, nbytes)
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address)).view(dtype)

    # Driver's methods.

    @property
    def current(self) -> Any:
        return self

    def __enter__(self) -> None:
        self._threads.append(threading.get_ident())

    def __exit__(self, *args: Any) -> None:
        self._threads.remove(threading.get_ident())

    def close(self) -> None:
        self._note("close")

    def memory(self) -> tuple[int, int]:
        return self.capacity - self.used, self.capacity

    def allocate(self, nbytes: int, what: str) -> int:
        self._note("allocate", nbytes, what)
        size = max(nbytes, 256)
        if self.used + size > self.capacity:
            raise DeviceMemoryError(f"cuda:0: {what} needs {nbytes} bytes")
        return self._keep(self.device_memory, size)

    def free(self, address: int) -> None:
        self._note("free", address)
        del self.device_memory[address]

    def device_of(self, address: int) -> int | None:
        self._note("device_of", address)
        return self.elsewhere.get(address, self.ordinal if self._inside(address) else None)

    def allocate_pinned(self, nbytes: int) -> int:
        self._note("allocate_pinned", nbytes)
        if sum(block.nbytes for block in self.pinned.values()) + nbytes > self.pinned_capacity:
            raise DeviceMemoryError(f"cuda:0: the host has no {nbytes} bytes of pinned memory")
        return self._keep(self.pinned, nbytes)

    def free_pinned(self, address: int) -> None:
        self._note("free_pinned", address)
        del self.pinned[address]

    def fill(self, address: int, byte: int, nbytes: int, stream: Any) -> None:
        self._note("fill", address, nbytes, int(stream))
        self._check(address, nbytes)
        ctypes.memset(address, byte, nbytes)

    def upload(self, address: int, host: int, nbytes: int, stream: Any) -> None:
        self._note("upload", address, nbytes, int(stream))
        self._check(address, nbytes)
        ctypes.memmove(address, host, nbytes)

    def download(self, host: int, address: int, nbytes: int, stream: Any) -> None:
        self._note("download", address, nbytes, int(stream))
        self._check(address, nbytes)
        ctypes.memmove(host, address, nbytes)

    def stream(self) -> Handle:
        return self._handle()

    def as_stream(self, handle: int) -> Handle:
        return Handle(handle)

    def check_stream(self, stream: Any) -> None:
        self._note("check_stream", int(stream))
        if int(stream) in self.foreign_streams:
            raise InputError("stream: expected one of cuda:0's, got one of cuda:1's")
        if int(stream) in self.captured_streams:
            raise InputError(CAPTURED)

    def elapsed_ms(self, before: Any, after: Any) -> float:
        self._note("elapsed_ms")
        return 0.5

    def destroy_stream(self, stream: Any) -> None:
        self.handles.remove(int(stream))

    def synchronize(self, stream: Any) -> None:
        self._note("synchronize", int(stream))

    def event(self, timing: bool = False) -> Handle:
        return self._handle()

    def record(self, event: Any, stream: Any) -> None:
        self._note("record", int(event), int(stream))

    def wait(self, stream: Any, event: Any) -> None:
        self._note("wait", int(stream), int(event))

    def is_done(self, event: Any) -> bool:
        self._note("is_done", int(event))
        return not self.busy

    def destroy_event(self, event: Any) -> None:
        self.handles.remove(int(event))

    def load_module(self, cubin: bytes) -> bytes:
        self._note("load_module", cubin)
        self.modules.append(cubin)
        return cubin

    def unload_module(self, module: bytes) -> None:
        self.modules.remove(module)

    def function(self, module: bytes, symbol: str, shared_bytes: int) -> str:
        self._note("function", symbol, shared_bytes)
        return symbol

    def encode_tensor_map(self, description: Mapping[str, Any], address: int) -> bytes:
        self._note("encode_tensor_map", dict(description), address)
        check_tensor_map(description, address)
        return address.to_bytes(8, "little") + bytes(120)

    def graph(self) -> Graph:
        self._note("graph")
        self.graphs.append(Graph())
        return self.graphs[-1]

    def add_kernel(
        self,
        graph: Graph,
        after: Sequence[Node],
        function: Any,
        grid: tuple[int, int, int],
        threads: int,
        shared_bytes: int,
        parameters: ParameterBlock,
        cluster: tuple[int, int, int] = (1, 1, 1),
        early: bool = False,
    ) -> Node:
        self._note("add_kernel", function, early)
        assert not early or len(after) == 1
        assert all(any(node is known for known in graph.nodes) for node in after)
        node = Node(function, grid, threads, shared_bytes, copied(parameters), list(after), early)
        graph.nodes.append(node)
        return node

    def instantiate(self, graph: Graph) -> Executable:
        self._note("instantiate")
        self.executables.append(Executable(graph, {id(node): node for node in graph.nodes}))
        return self.executables[-1]

    def update_kernel(
        self,
        executable: Executable,
        node: Node,
        function: Any,
        grid: tuple[int, int, int],
        threads: int,
        shared_bytes: int,
        parameters: ParameterBlock,
    ) -> None:
        self._note("update_kernel", function)
        before = executable.nodes[id(node)]
        assert (before.function, before.threads, before.shared_bytes) == (function, threads, shared_bytes)
        values = copied(parameters)
        executable.nodes[id(node)] = Node(function, grid, threads, shared_bytes, values, before.after, before.early)

    def launch(self, executable: Executable, stream: Any) -> None:
        self._note("launch", int(stream))
        assert executable.alive
        for node in self._order(executable.graph):
            current = executable.nodes[id(node)]
            if current.function in self.kernels:
                self.kernels[current.function](self, current.grid, current.values)

    def destroy_executable(self, executable: Executable) -> None:
        executable.alive = False

    def destroy_graph(self, graph: Graph) -> None:
        graph.alive = False

    # How.

    def _note(self, *call: Any) -> None:
        anywhere = call[0] in ("close", "encode_tensor_map")  # these need no context
        assert anywhere or threading.get_ident() in self._threads, f"{call[0]} without a current GPU"
        if self.lost:
            raise DeviceLostError(f"cuda:0: a kernel failed; found in {call[0]}")
        self.calls.append(call)

    def _handle(self) -> Handle:
        self._next_handle += 1
        self.handles.add(self._next_handle)
        return Handle(self._next_handle)

    def _keep(self, where: dict[int, np.ndarray], nbytes: int) -> int:
        block = np.full(nbytes + 256, 0xCD, np.uint8)
        start = -block.ctypes.data % 256
        where[block.ctypes.data + start] = block[start : start + nbytes]
        return int(block.ctypes.data + start)

    def _inside(self, address: int) -> list[int]:
        return [first for first, block in self.device_memory.items() if first <= address < first + block.nbytes]

    def _check(self, address: int, nbytes: int) -> None:
        inside = self._inside(address)
        assert inside, f"{address} is no device memory"
        assert address + nbytes <= inside[0] + self.device_memory[inside[0]].nbytes

    def _order(self, graph: Graph) -> list[Node]:
        done: list[Node] = []
        left = list(graph.nodes)
        while left:
            ready = [node for node in left if all(any(a is d for d in done) for a in node.after)]
            node = self._random.choice(ready)
            done.append(node)
            left = [other for other in left if other is not node]
        return done


def copied(block: ParameterBlock) -> tuple[bytes, ...]:
    """The parameters as the driver finds them: an array of pointers at ``address``, each to a value."""
    pointers = (ctypes.c_uint64 * len(block.values)).from_address(block.address)
    found = tuple(ctypes.string_at(at, len(value)) for at, value in zip(pointers, block.values, strict=True))
    for at, value in zip(pointers, found, strict=True):
        assert at % (64 if len(value) == 128 else min(len(value), 8)) == 0
    return found
