"""CpuGroup: nodes that have no kernels, as a group among the others; the CPU computes it between two launches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine.backends.cuda.groups import Group, View
from trine.runtime.cuda.cpu_parts import open_part
from trine.runtime.cuda.plan import CpuPart
from trine.runtime.executor import Session

__all__ = ["CpuGroup", "run_part"]

_KEPT = 16  # compiled parts: the reference device lowers anew for each call


@dataclass(frozen=True, kw_only=True)
class CpuGroup(Group):
    """A part of the graph for the CPU. Views in the arena and of the caller's buffers are contiguous, and of the
    element types that ``part`` takes and gives. A buffer of kind "slot" is an array in host memory whose shape is known
    only when it is there; its view has no axes.

    rows: for each input (axis, factor) where an axis counts the caller's rows times a factor: what lies beyond the
    call's rows is made 0 before the CPU sees it; None where no axis does. ``y`` is not used; it is one of the outputs.
    """

    part: CpuPart
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]
    rows: tuple[tuple[int, int] | None, ...] = ()

    def views(self) -> list[View]:
        """See Group."""
        return list(self.inputs)

    def written(self) -> list[View]:
        """See Group."""
        return list(self.outputs)


_sessions: OrderedDict[tuple[Any, ...], Session] = OrderedDict()


def run_part(part: CpuPart, inputs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """What a part makes of arrays, in its order."""
    key = (part.model, tuple((name, dtype, shape, bytes(data)) for name, dtype, shape, data in part.weights))
    if key not in _sessions:
        _sessions[key] = open_part(part, threads=0).open_session()
        if len(_sessions) > _KEPT:
            _sessions.popitem(last=False)
    _sessions.move_to_end(key)
    return _sessions[key].run(inputs, [None] * len(part.outputs))
