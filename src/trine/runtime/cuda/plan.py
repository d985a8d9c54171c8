"""CudaPlan: what the builder made for one GPU architecture: cubins, weights, and a list of launches for each bucket.

Operators without kernels are in it too, as parts of the graph that the CPU computes between two launches.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "WEIGHT_ALIGNMENT",
    "Bucket",
    "CpuEdge",
    "CpuPart",
    "CpuStep",
    "CudaPlan",
    "Kernel",
    "LaunchRecord",
    "SharedWeight",
    "cuda_plan_name",
]

WEIGHT_ALIGNMENT = 256  # bytes; what cuMemAlloc gives, and more than any load or descriptor asks for


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel. ``cubin`` is the machine code, ``symbol`` the function in it; shared memory in bytes.

    parameters: the type of each that the launch gives, in order: "pointer", "i32", "i64", "fp32" or "tensormap" (the
    128-byte descriptor, followed by its shape as i32 and strides as i64 where ``expanded`` says how many axes).
    ``null_pointers``: how many null pointers end the parameter list (Triton's scratch memories). ``waits``: whether it
    begins by waiting for the launches before it, so that it may be started before they have ended; the last two of
    these pointers then say what it is to fetch for the next launch.
    """

    name: str
    symbol: str
    cubin: bytes
    shared_bytes: int
    threads: int
    parameters: tuple[str, ...]
    null_pointers: int = 2
    cluster: tuple[int, int, int] = (1, 1, 1)
    waits: bool = False


@dataclass(frozen=True)
class LaunchRecord:
    """One launch of a bucket.

    arguments, one of:
        ("arena", byte offset)   ("weight", byte offset)          memory of the context, memory of the engine
        ("input", index, byte offset)  ("output", index, byte offset)   the caller's memory, in the manifest's order
        ("rows", factor)                                          the call's rows times factor, an i32
        ("i32" | "i64" | "fp32", value)
        ("tensormap", {"base": [one of the addresses above], "dtype": "fp16", "shape": [...], "strides": [...],
            "box": [...], "swizzle": 0 | 32 | 64 | 128, "im2col": null | {"lower": [...], "upper": [...],
            "channels": int, "pixels": int, "steps": [...]}})
            shape, strides (elements), box and steps in the order of the axes, outermost first.
    reads, writes: (place, first byte, end byte) with place "arena", "input i" or "output i": what the order of
        launches has to respect. Weights are left out.
    group: index into the bucket's groups.
    ahead: the weights to fetch into the L2 cache for launches after this one: (byte offset, bytes).
    """

    kernel: int
    grid: tuple[int, int, int]
    arguments: tuple[tuple[Any, ...], ...]
    reads: tuple[tuple[str, int, int], ...]
    writes: tuple[tuple[str, int, int], ...]
    group: int
    ahead: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class CpuPart:
    """Nodes that the CPU computes, as an ONNX model for any shapes.

    weights: its large initializers, (name, element type, shape, bytes) each. inputs, outputs: names and element types
    (as NumPy spells them). nodes: "op", "name" and "reason" of each, for people: why the GPU does not compute it.
    """

    model: bytes
    weights: tuple[tuple[str, str, tuple[int, ...], bytes | memoryview], ...]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    nodes: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class CpuEdge:
    """Where an array lies that the CPU takes or gives.

    place, one of:
        ("arena", byte offset)   contiguous, copied from there, or to there
        ("input", index)         the caller's; only as an input of a part
        ("output", index)        the caller's; only as an output of a part
        ("slot", number)         in host memory, from one part to a later one
    shape: for the bucket's rows; None in slots, and for outputs whose shape depends on values.
    rows: of inputs (axis, factor): that axis is the rows times the factor; what lies beyond the call's rows is made 0.
    """

    place: tuple[str, int]
    shape: tuple[int, ...] | None = None
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class CpuStep:
    """One run of a part, when the first ``after`` launches of the bucket are done; inputs and outputs in the part's
    order. group: index into the bucket's groups."""

    part: int
    after: int
    inputs: tuple[CpuEdge, ...]
    outputs: tuple[CpuEdge, ...]
    group: int


@dataclass(frozen=True)
class Bucket:
    """Everything for calls of up to ``rows`` rows. groups: what the inspector shows of each group of launches:
    name, kind, tactic, configuration, latency_us (or None), bytes and operations (the roofline). early: whether
    launches are started before those that they wait for have ended, where their kernels can wait."""

    rows: int
    arena_bytes: int
    launches: tuple[LaunchRecord, ...]
    groups: tuple[Mapping[str, Any], ...] = ()
    cpu_steps: tuple[CpuStep, ...] = ()
    early: bool = False

    def segments(self) -> tuple[tuple[LaunchRecord, ...], ...]:
        """The launches before, between and after the CPU's steps: one more than there are steps, some maybe empty."""
        ends = (0, *(step.after for step in self.cpu_steps), len(self.launches))
        return tuple(self.launches[start:end] for start, end in itertools.pairwise(ends))


@dataclass(frozen=True)
class SharedWeight:
    """Weights that are the portable graph's ``name``, seen in this ``shape``, ``axes`` in this order; from byte
    ``offset`` of the plan's."""

    offset: int
    name: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    nbytes: int

    @property
    def end(self) -> int:
        """Where the next weight may begin."""
        return self.offset + -(-self.nbytes // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT


@dataclass(frozen=True)
class CudaPlan:
    """target: "sm_90". weights: uploaded once for all contexts; those that are ``shared`` with the portable graph are
    left out, and the others lie around them (``stretches``). row_axis: whether axis 0 of every input and
    output is the rows; without it there is one bucket for each exact shape. inputs, outputs: shape of one row (or the
    whole shape without rows) and dtype, in the manifest's order; None for the shape of an output that the CPU gives and
    that depends on values."""

    target: str
    precision: str
    kernels: tuple[Kernel, ...]
    buckets: tuple[Bucket, ...]
    weights: bytes | memoryview
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    outputs: tuple[tuple[tuple[int, ...] | None, str], ...]
    rows_vary: bool = True
    versions: Mapping[str, str] = field(default_factory=dict)
    device_name: str = ""
    cpu_parts: tuple[CpuPart, ...] = ()
    shared: tuple[SharedWeight, ...] = ()  # by offset

    @property
    def weight_bytes(self) -> int:
        """Of all weights on the device."""
        return len(self.weights) + sum(each.end - each.offset for each in self.shared)

    def stretches(self) -> Iterator[tuple[int, memoryview]]:
        """The plan's own weights: an offset on the device, and the bytes from there."""
        own, at = memoryview(self.weights).cast("B"), 0
        for offset, end in [*((each.offset, each.end) for each in self.shared), (self.weight_bytes, 0)]:
            if offset > at:
                yield at, own[: offset - at]
                own = own[offset - at :]
            at = end

    @property
    def tactic(self) -> str:
        """What an engine says that it runs with."""
        return "cuda"


def cuda_plan_name(target: str) -> str:
    """What the engine file calls the plan for an architecture: "cuda_sm_90"."""
    return f"cuda_{target}"
