"""What the stages of a build share, whichever device it is for: candidates, and their verification."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from trine.builder.config import BuilderConfig
from trine.builder.stages import Stages
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import AccuracyError, BuildError, DeviceError
from trine.importers.imported_model import ImportedModel
from trine.profile import OptimizationProfile
from trine.runtime.context import ExecutionContext
from trine.runtime.cpu import CpuPlan
from trine.runtime.cuda.plan import CudaPlan
from trine.runtime.executor import Executor
from trine.runtime.tensorrt.plan import TensorRTPlan
from trine.verify.comparator import compare
from trine.verify.inputs import build_cases
from trine.verify.neighbours import BatchAxis
from trine.verify.report import Report

__all__ = ["Candidate", "NothingForGpuError", "Plan", "Task"]

log = logging.getLogger("trine")

Plan = CpuPlan | CudaPlan | TensorRTPlan


class NothingForGpuError(BuildError):
    """The GPU would only copy. ``build`` makes an engine for CPUs then."""


class Named(Protocol):
    """A tactic, as far as every task knows it."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...


@dataclass
class Candidate:
    """One tactic at one precision, and what became of it."""

    tactic: Named
    precision: str
    plan: Plan | None = None
    executor: Executor | None = None
    latency_ms: float | None = None
    reasons: list[str] = field(default_factory=list)
    chosen: bool = False
    built_only: bool = False  # a plan for a device that nothing here runs: stored, neither timed nor verified

    @property
    def label(self) -> str:
        return f"{self.tactic.name} {self.precision}"

    def close(self) -> None:
        """Free what it computes with; once is enough."""
        executor, self.executor = self.executor, None
        if executor is not None:
            executor.close()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.tactic.name,
            "precision": self.precision,
            "chosen": self.chosen,
            **({"built_only": True} if self.built_only else {}),
            "latency_ms": self.latency_ms,
            "reasons": list(self.reasons),
            "options": dict(self.plan.options) if isinstance(self.plan, CpuPlan) else {},
        }


@dataclass
class Task(ABC):
    """What the stages after the passes share."""

    config: BuilderConfig
    graph: PortableGraph
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    profile: OptimizationProfile
    rows: BatchAxis | None
    imported: ImportedModel
    stages: Stages

    @abstractmethod
    def candidates(self) -> list[Candidate]:
        """All that might become the engine; those that cannot, with the reason. Raises ConfigError if none can."""

    @abstractmethod
    def compile(self, candidates: list[Candidate]) -> None:
        """Compile what can be. Raises UnsupportedError when nothing can."""

    @abstractmethod
    def compile_one(self, candidate: Candidate) -> None:
        """Compile one that was left out so far; a failure becomes its reason."""

    @abstractmethod
    def time(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those that compiled, the fastest first. Raises BuildError when none runs."""

    @abstractmethod
    def finish(self, chosen: Candidate) -> tuple[dict[str, bytes], Plan, Executor]:
        """The engine's plans by name, the one that runs here, and its executor. ``graph`` is then as it is stored."""

    def context(self, candidate: Candidate) -> ExecutionContext:
        assert candidate.executor is not None
        return ExecutionContext(candidate.executor, self.inputs, self.outputs, self.profile.ranges)

    def verify(self, ranked: list[Candidate]) -> tuple[Candidate, Report | None]:
        """The fastest candidate whose answers are right, with the evidence.

        Raises AccuracyError with the fastest one's table when none is.
        """
        first: Report | None = None
        for candidate in ranked:
            if candidate.executor is None:
                if candidate.reasons:
                    continue
                self.compile_one(candidate)
                if candidate.executor is None:
                    continue
            if not self.config.verify:
                return candidate, None
            self.stages.detail(f"verify: {candidate.label}")
            try:
                report = self._report(candidate)
            except BaseException:  # its traceback keeps the candidate; whoever handles it may want the GPU's memory
                candidate.close()
                raise
            if report.passed:
                return candidate, report
            candidate.close()  # a GPU's memory is for the next
            first = first or report
            candidate.reasons.append("outside the accuracy budget: " + "; ".join(report.problems)[:600])
            log.warning("%s is outside the accuracy budget: %s", candidate.label, "; ".join(report.problems))
        if first is None:
            refusals = {candidate.label: "; ".join(candidate.reasons) for candidate in ranked}
            raise BuildError(f"{self.imported.name}: nothing that was timed before compiles now", refusals)
        raise AccuracyError(
            f"{self.imported.name}: the answers are outside the accuracy budget; no engine was made.\n{first}\n"
            "Raise accuracy_budget= if this is good enough, or build with a higher precision",
            first,
        )

    def _report(self, candidate: Candidate) -> Report:
        cases = build_cases(self.profile, self.imported.example_inputs, self.inputs, self.config.seed)
        context = self.context(candidate)

        def run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            try:
                return context.execute(arrays)
            except DeviceError:
                raise
            except RuntimeError as err:  # ExecutionError, and what a backend raises by itself
                shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
                raise BuildError(
                    f"{self.imported.name}: {candidate.label} cannot compute {shapes}, which the profile allows: "
                    f"{' '.join(str(err).split())[:400]}. Give a profile of sizes that the model can take: batch=1, say"
                ) from err

        return compare(
            run,
            self.imported.reference,
            cases,
            self.config.accuracy_budget,
            precision=candidate.precision,
            seed=self.config.seed,
            axis=self.rows,
        )
