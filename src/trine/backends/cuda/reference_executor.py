"""The reference device: what a plan is made from, in NumPy, on one poisoned arena, placed for the rows of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trine.backends.cuda.lowering import lower
from trine.backends.cuda.memory_plan import plan_memory
from trine.backends.cuda.reference import run_groups
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph

__all__ = ["ReferenceExecutor"]


class ReferenceExecutor:
    """Executes what a CudaPlan was made from, for any number of rows: lowered, fused and placed anew, without kernels'
    scratch. Slow: it shows that these steps are right, where there is no GPU to show it on."""

    writes_in_place = False

    def __init__(
        self,
        graph: PortableGraph,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        precision: str,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        """``refused``: nodes that the CPU computes although they can be lowered, as ``lower`` takes them."""
        self._refused = refused
        self._graph, self._inputs, self._outputs = graph, tuple(inputs), tuple(outputs)
        self._precision = precision

    def open_session(self) -> ReferenceExecutor:
        """Itself: nothing is kept between calls."""
        return self

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See Session."""
        rows = self._rows(inputs)
        lowered = lower(
            self._graph, rows, self._inputs, self._outputs, self._precision, cpu_fallback=True, refused=self._refused
        )
        found = run_groups(lowered.groups, plan_memory(lowered.groups), dict(zip(lowered.inputs, inputs, strict=True)))
        shapes = [tuple(dim if isinstance(dim, int) else rows for dim in info.shape) for info in self._outputs]
        answers = [
            found[buffer] if buffer.kind == "slot" else found[buffer].reshape(shape)
            for buffer, shape in zip(lowered.outputs, shapes, strict=True)
        ]
        for target, answer in zip(outputs, answers, strict=True):
            if target is not None:
                target[...] = answer
        return [answer if target is None else target for target, answer in zip(outputs, answers, strict=True)]

    def _rows(self, inputs: Sequence[np.ndarray]) -> int:
        varying = (
            array.shape[0]
            for info, array in zip(self._inputs, inputs, strict=True)
            if info.shape and isinstance(info.shape[0], str)
        )
        return int(next(varying, 1))

    def close(self) -> None:
        """Nothing to free."""
