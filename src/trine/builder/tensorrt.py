"""The part of a build that is for TensorRT: its plan, and beside it one for CPUs, for where TensorRT cannot run."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

from trine.backends.tensorrt.build import build_tensorrt_plan
from trine.builder.cpu import CpuTask
from trine.builder.task import Candidate, Plan
from trine.errors import ConfigError, MissingDependencyError, NoDeviceError
from trine.runtime.executor import Executor
from trine.runtime.tensorrt.choose_device import tensorrt_here
from trine.runtime.tensorrt.packages import TensorRT, installed_tensorrt
from trine.runtime.tensorrt.plan import TENSORRT_PLAN, TensorRTPlan
from trine.verify.report import Report

__all__ = ["TensorRTTask"]

log = logging.getLogger("trine")


@dataclass(frozen=True)
class TensorRTTactic:
    """The package that builds, as a candidate's name."""

    name: str


class TensorRTTask(CpuTask):
    """A CPU build in fp32, and a plan by TensorRT in the precision asked for.

    Where the plan runs, on a GPU that is here and that TensorRT supports, its answers are verified, and it is what the
    engine runs. Elsewhere that is the plan for CPUs, and the evidence says that TensorRT's was built only.
    """

    def candidates(self) -> list[Candidate]:
        """TensorRT's, and those of the CPU in fp32.

        Raises MissingDependencyError without TensorRT, ConfigError for precision "best".
        """
        self._package: TensorRT = installed_tensorrt()
        precision = self.config.precision
        if precision == "best":
            raise ConfigError(
                'device="tensorrt": precision "best" would build a plan for each, which takes minutes; name one: fp32, '
                "tf32, bf16 or fp16"
            )
        self.config = dataclasses.replace(self.config, precision="fp32")
        self._built = Candidate(TensorRTTactic(self._package.name), precision, built_only=True)
        return [*super().candidates(), self._built]

    def compile(self, candidates: list[Candidate]) -> None:
        """TensorRT first, as it refuses more. Raises as build_tensorrt_plan and CpuTask.compile do."""
        self._plan: TensorRTPlan = build_tensorrt_plan(
            self._package,
            self.graph,
            (*self.inputs, *self.outputs),
            self.profile,
            self._built.precision,
            self.config.target,
            self.stages.detail,
        )
        super().compile([candidate for candidate in candidates if candidate is not self._built])
        try:
            self._built.executor = tensorrt_here(lambda: self._plan, self.inputs, self.outputs)[1]
        except (NoDeviceError, MissingDependencyError) as err:
            self._built.reasons.append(f"built, not run: {err}")
            return
        self._built.plan, self._built.built_only = self._plan, False

    def time(self, candidates: list[Candidate]) -> list[Candidate]:
        """See CpuTask; TensorRT's plan, where it runs, is not one of several to choose from."""
        ranked = super().time([candidate for candidate in candidates if candidate is not self._built])
        self._fastest_on_cpu = ranked[0]
        return ranked if self._built.built_only else [self._built]

    def verify(self, ranked: list[Candidate]) -> tuple[Candidate, Report | None]:
        """See Task; evidence of the CPU's plan alone says so."""
        chosen, report = super().verify(ranked)
        if chosen is self._built or report is None:
            return chosen, report
        note = (
            f"of the plan for CPUs, in {chosen.precision}; the plan by {self._package.name} {self._package.version} in "
            f"{self._built.precision} was built, not run"
        )
        return chosen, dataclasses.replace(report, notes=(*report.notes, note))

    def finish(self, chosen: Candidate) -> tuple[dict[str, bytes], Plan, Executor]:
        """Both plans, and the one that runs here."""
        plans, plan, executor = super().finish(self._fastest_on_cpu if chosen is self._built else chosen)
        plans[TENSORRT_PLAN] = self._plan.to_bytes()
        if chosen is self._built:
            assert chosen.executor is not None
            return plans, self._plan, chosen.executor
        log.info("%s: %s; running on the CPU", self.imported.name, self._built.reasons[0])
        return plans, plan, executor
