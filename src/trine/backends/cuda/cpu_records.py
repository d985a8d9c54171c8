"""How a plan writes down what the CPU computes: its parts, each once for all buckets, and where each run has arrays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trine.backends.cuda.cpu_group import CpuGroup, run_part
from trine.backends.cuda.groups import Buffer, Group, Pointwise, View
from trine.backends.cuda.lowering import Lowered
from trine.backends.cuda.memory_plan import Placement
from trine.dtypes import DataType
from trine.runtime.cuda.plan import CpuEdge, CpuPart, CpuStep

__all__ = ["CpuRecorder", "cpu_parts", "only_cpu"]

_TIMED = 5  # runs


@dataclass
class CpuRecorder:
    """Gathers the parts of all buckets. Most buckets have the same: shapes are open in them. ``timed``: whether to
    measure how long they take."""

    timed: bool = False
    parts: list[CpuPart] = field(default_factory=list)

    def step(
        self, group: CpuGroup, index: int, after: int, slots: dict[Buffer, int], lowered: Lowered, placement: Placement
    ) -> CpuStep:
        """One run. ``index``: the group's; ``after``: how many launches come before; ``slots``: the bucket's, numbered
        as they come."""
        # Why a node has no kernels may be said with numbers of the bucket's: that makes no other part.
        part = next((each for each in self.parts if replace(each, nodes=group.part.nodes) == group.part), None)
        if part is None:
            part = group.part
            self.parts.append(part)

        def edge(view: View, rows: tuple[int, int] | None = None) -> CpuEdge:
            buffer = view.buffer
            if buffer.kind == "arena":
                return CpuEdge(("arena", placement.offsets[buffer]), view.shape, rows)
            edges = lowered.inputs if buffer.kind == "input" else lowered.outputs
            place = next((number for number, each in enumerate(edges) if each is buffer), None)
            if place is not None:
                kind = "input" if buffer.kind == "input" else "output"
                return CpuEdge((kind, place), None if buffer.kind == "slot" else view.shape, rows)
            return CpuEdge(("slot", slots.setdefault(buffer, len(slots))))

        return CpuStep(
            part=self.parts.index(part),
            after=after,
            inputs=tuple(edge(view, rows) for view, rows in zip(group.inputs, group.rows, strict=True)),
            outputs=tuple(edge(view) for view in group.outputs),
            group=index,
        )

    def shown(self, group: CpuGroup) -> dict[str, Any]:
        """What the inspector shows of it, as of groups of launches. What the GPU has to do for it is nothing."""
        return {
            "name": group.name,
            "kind": "CPU",
            "tactic": "cpu",
            "configuration": {},
            "latency_us": _microseconds(group) if self.timed else None,
            "bytes": 0,
            "operations": 0,
            "floor_us": 0.0,
        }


def cpu_parts(groups: Sequence[Group]) -> list[CpuPart]:
    """What the CPU computes of these groups."""
    return [group.part for group in groups if isinstance(group, CpuGroup)]


def only_cpu(groups: Sequence[Group]) -> bool:
    """Whether the CPU computes something, and the GPU would only copy."""
    kernels = [group for group in groups if not isinstance(group, CpuGroup)]
    return len(kernels) < len(groups) and all(
        isinstance(group, Pointwise) and group.expr.op == "input" for group in kernels
    )


def _microseconds(group: CpuGroup) -> float | None:
    """How long the CPU here computes, of zeros; None where the shapes of inputs are not known before."""
    if any(view.buffer.kind == "slot" for view in group.inputs):
        return None
    zeros = [
        np.zeros(view.shape, DataType(dtype).numpy)
        for view, (_, dtype) in zip(group.inputs, group.part.inputs, strict=True)
    ]
    times = []
    for _ in range(_TIMED + 1):  # the first one prepares
        started = time.perf_counter()
        run_part(group.part, zeros)
        times.append((time.perf_counter() - started) * 1e6)
    return round(statistics.median(times[1:]), 3)
