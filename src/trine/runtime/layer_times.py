"""How long each layer of an engine takes on the CPU, as its backend measures it.

Measuring costs time, so an ordinary run is never measured: the plan is compiled once more, with the backend's
profiling.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trine.errors import UnsupportedError
from trine.runtime.context import ExecutionContext
from trine.runtime.cpu import CpuPlan
from trine.runtime.cpu.features import usable_cores

if TYPE_CHECKING:
    from trine.engine.engine import Engine
    from trine.runtime.executor import Session

__all__ = ["LayerTimes"]


class LayerTimes:
    """An engine's plan, compiled to be measured; answers as an execution context of the engine does."""

    def __init__(self, engine: Engine) -> None:
        """Compile the plan. Raises UnsupportedError for an engine that does not run on the CPU."""
        if not isinstance(engine.plan, CpuPlan):
            raise UnsupportedError(
                f"{engine.manifest.name}: the times of layers are measured on the CPU, and this engine runs on "
                f'{engine.device}; load it with device="cpu", or use NVIDIA\'s profilers'
            )
        make = _OpenVinoTimed if engine.plan.tactic == "openvino" else _OnnxRuntimeTimed
        self._executor = make(engine, engine.plan)
        self._context = ExecutionContext(self._executor, engine.inputs, engine.outputs, engine.profile.ranges)

    def execute(self, inputs: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As ``ExecutionContext.execute``."""
        return self._context.execute(inputs, out)

    @property
    def last(self) -> list[tuple[str, float]]:
        """Of the last call: each layer's name and milliseconds, in the order of execution. Empty before any.

        The names are the backend's: of layers that it fused, that of one of them.
        """
        return list(self._executor.times)


class _OpenVinoTimed:
    """OpenVINO counts in each request. Its resolution is a microsecond."""

    def __init__(self, engine: Engine, plan: CpuPlan) -> None:
        from trine.runtime.cpu.openvino_executor import OpenVinoExecutor

        options = {**plan.options, "layer_times": "on"}
        threads = plan.threads or usable_cores()
        self._executor = OpenVinoExecutor(engine.graph, engine.inputs, engine.outputs, threads=threads, options=options)
        self._session = self._executor.open_session()
        self.times: list[tuple[str, float]] = []
        self.writes_in_place = self._session.writes_in_place

    def open_session(self) -> Session:
        """Itself: there is one request."""
        return self

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See ``trine.runtime.executor.Session.run``."""
        answers = self._session.run(inputs, outputs)
        self.times = self._session.layer_times()
        return answers

    def close(self) -> None:
        """Free the compiled model."""
        self._executor.close()


class _OnnxRuntimeTimed:
    """ONNX Runtime writes one report at a session's end: so each call has a session of its own, and a temporary file.

    The first run in a session also allocates; the second is what counts.
    """

    writes_in_place = False

    def __init__(self, engine: Engine, plan: CpuPlan) -> None:
        self._engine, self._options, self._threads = engine, plan.options, plan.threads or usable_cores()
        self.times: list[tuple[str, float]] = []

    def open_session(self) -> Session:
        """Itself."""
        return self

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See ``trine.runtime.executor.Session.run``."""
        from trine.runtime.cpu.onnxruntime_executor import OnnxRuntimeExecutor

        engine = self._engine
        with tempfile.TemporaryDirectory() as folder:
            options = {**self._options, "profile_prefix": str(Path(folder) / "layers")}
            executor = OnnxRuntimeExecutor(
                engine.graph, engine.inputs, engine.outputs, threads=self._threads, options=options
            )
            session = executor.open_session()
            session.run(inputs, [None] * len(outputs))
            answers = session.run(inputs, outputs)
            report = json.loads(Path(executor.end_profiling()).read_text(encoding="utf-8"))
            executor.close()
        self.times = _of_last_run(report)
        return answers

    def close(self) -> None:
        """Nothing is kept."""


def _of_last_run(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """The kernels between the last two ends of a run, in ONNX Runtime's report."""
    ends = [index for index, event in enumerate(events) if event["name"] == "model_run"]
    begin = ends[-2] + 1 if len(ends) > 1 else 0
    suffix = "_kernel_time"
    return [
        (event["name"].removesuffix(suffix), event["dur"] / 1e3)
        for event in events[begin : ends[-1]]
        if event["cat"] == "Node" and event["name"].endswith(suffix)
    ]
