"""The part of a build that is for NVIDIA GPUs: a plan for each precision asked for, and what runs it to verify it."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trine.backends.cpu.tactics import CPU_TACTICS
from trine.backends.cuda.shared_weights import share_weights
from trine.builder.task import Candidate, NothingForGpuError, Plan, Task
from trine.errors import BuildError, ConfigError, MissingDependencyError, NoDeviceError, UnsupportedError
from trine.runtime.cpu import compile_cpu_plan
from trine.runtime.cuda.plan import CudaPlan, cuda_plan_name
from trine.runtime.cuda.plan_bytes import plan_to_bytes
from trine.runtime.executor import Executor
from trine.runtime.runtime import CPU_PLAN
from trine.verify.inputs import BATCH
from trine.verify.report import Report

if TYPE_CHECKING:
    from trine.backends.cuda.device_timer import DeviceTimer

__all__ = ["CudaTask"]

log = logging.getLogger("trine")

_SHOWN = 10  # nodes in the text of a warning; all of them are in what ``inspect`` shows


@dataclass(frozen=True)
class CudaTactics:
    """All CUDA tactics together, as one candidate: which kernel computes what is chosen group by group."""

    name: str = "cuda"


class CudaTask(Task):
    """Candidates are precisions, tried the fastest first. Kernels are timed while compiling.

    Without a GPU of the target's architecture, kernels are chosen by what is remembered of them, and the plan is
    verified on the reference device, in NumPy.
    """

    _warned = False

    def candidates(self) -> list[Candidate]:
        """One for each precision asked for. Raises MissingDependencyError without Triton."""
        if importlib.util.find_spec("triton") is None:
            raise MissingDependencyError(
                "building for CUDA compiles kernels with Triton: pip install 'trine[cuda-build]'", name="triton"
            )
        asked = self.config.precision
        precisions = ("fp16", "bf16", "tf32", "fp32") if asked == "best" else (asked,)
        return [Candidate(CudaTactics(), precision) for precision in precisions]

    def compile(self, candidates: list[Candidate]) -> None:
        """The first; the others only if its answers should turn out not to be good enough.

        Raises UnsupportedError and BuildError as build_cuda_plan does, and NothingForGpuError.
        """
        candidates[0].plan, candidates[0].executor = self._compile(candidates[0].precision)

    def compile_one(self, candidate: Candidate) -> None:
        """See Task."""
        try:
            candidate.plan, candidate.executor = self._compile(candidate.precision)
        except BuildError as err:
            candidate.reasons.append(str(err))

    def time(self, candidates: list[Candidate]) -> list[Candidate]:
        """As they are: narrower is faster."""
        return candidates

    def verify(self, ranked: list[Candidate]) -> tuple[Candidate, Report | None]:
        """See Task. Raises UnsupportedError for a model that mixes the rows of a batch that varies.

        A call with fewer rows than its bucket is computed beside rows of an earlier one.
        """
        chosen, report = super().verify(ranked)
        independence = None if report is None else report.row_independence
        if independence is not None and not independence.source_independent and self._rows_vary():
            chosen.close()
            raise UnsupportedError(
                f"{self.imported.name}: the model mixes the rows of a batch, and a CUDA engine computes other rows "
                "beside those of a call; build for one size: batch=8"
            )
        return chosen, report

    def finish(self, chosen: Candidate) -> tuple[dict[str, bytes], Plan, Executor]:
        """A plan for CPUs beside the GPU's, so that the engine runs anywhere; it is what runs here without a GPU."""
        assert isinstance(chosen.plan, CudaPlan)
        assert chosen.executor is not None
        cpu = next((tactic for tactic in CPU_TACTICS if tactic.supports("fp32")), CPU_TACTICS[0])
        cpu_plan = cpu.plan("fp32", self.config.threads or 0)
        stored, self.graph = share_weights(chosen.plan, self.graph)
        plans = {CPU_PLAN: cpu_plan.to_bytes(), cuda_plan_name(stored.target): plan_to_bytes(stored)}
        if chosen.plan.device_name:
            return plans, chosen.plan, chosen.executor
        return plans, cpu_plan, compile_cpu_plan(cpu_plan, self.graph, self.inputs, self.outputs)

    def _compile(self, precision: str) -> tuple[CudaPlan, Executor]:
        from trine.backends.cuda.build import build_cuda_plan
        from trine.backends.cuda.choose import Chooser
        from trine.backends.cuda.kernel_cache import KernelCache
        from trine.backends.cuda.target import target_named
        from trine.backends.cuda.tuning_cache import SHIPPED, TuningCache

        timer = self._timer()
        name = timer.target_name if timer is not None else str(self.config.target)
        target = target_named(name, tf32=precision == "tf32")
        device = timer.device_name if timer is not None else ""
        timings, kernels = self.config.timing_cache, self.config.kernel_cache
        try:
            chooser = Chooser(
                target=target,
                cache=TuningCache(Path(timings) if timings else None, device, target.name, SHIPPED),
                kernel_cache=KernelCache(Path(kernels) if kernels else None),
                timer=timer,
                quick=self.config.quick_tuning,
            )
            built = build_cuda_plan(
                self.graph,
                self.inputs,
                self.outputs,
                self._buckets(),
                precision,
                target,
                chooser,
                rows_vary=self._rows_vary(),
                cpu_fallback=self.config.cpu_fallback,
                on_stage=self.stages.detail,
            )
        finally:
            if timer is not None:
                timer.close()
        if built is None:
            raise NothingForGpuError(f"{self.imported.name}: none of its operators has kernels for GPUs")
        plan = built.plan
        self._warn(plan)
        from trine.backends.cuda.early_starts import choose_early_starts, with_early_starts

        if timer is not None:
            from trine.runtime.cuda.executor import CudaExecutor

            self.stages.detail("try launches that start early")
            plan = choose_early_starts(plan, lambda each: CudaExecutor(each, self.inputs, self.outputs))
            return plan, CudaExecutor(plan, self.inputs, self.outputs)
        from trine.backends.cuda.reference_executor import ReferenceExecutor

        executor = ReferenceExecutor(self.graph, self.inputs, self.outputs, precision, built.refused)
        return with_early_starts(plan), executor

    def _warn(self, plan: CudaPlan) -> None:
        """Say what runs on the CPU; once, whatever the number of buckets and precisions."""
        if not plan.cpu_parts or self._warned:
            return
        self._warned = True
        steps = plan.buckets[-1].cpu_steps
        nodes = [node for step in steps for node in plan.cpu_parts[step.part].nodes]
        operators = ", ".join(sorted({node["op"] for node in nodes}))
        listed = "; ".join(f"{node['name']} ({node['op']}): {node['reason']}" for node in nodes[:_SHOWN])
        log.warning(
            "%s: %s on the CPU, in %d step%s a call, each of which waits for the GPU and copies (%s): %s%s. "
            "cpu_fallback=False (--noCpuFallback) makes this an error",
            self.imported.name,
            "1 node runs" if len(nodes) == 1 else f"{len(nodes)} nodes run",
            len(steps),
            "" if len(steps) == 1 else "s",
            operators,
            listed,
            "; ..." if len(nodes) > _SHOWN else "",
        )

    def _rows_vary(self) -> bool:
        """Whether calls may have different numbers of rows.

        Raises UnsupportedError for a model that has rows in some of its inputs and outputs only: a call is answered by
        launches for at least as many rows, and in pieces where it has more.
        """
        without = [
            f"{kind} {info.name!r} {list(info.shape)}"
            for kind, infos in (("input", self.inputs), ("output", self.outputs))
            for info in infos
            if not info.shape or info.shape[0] != BATCH
        ]
        if len(without) == len(self.inputs) + len(self.outputs):
            return False
        if without and any(BATCH in info.shape for info in self.inputs):
            raise UnsupportedError(
                f"{self.imported.name}: with a batch that varies, every input and output of a CUDA engine has it as "
                f"its first axis; {', '.join(without)} has not. Build for one size: batch=1",
                without,
            )
        return not without

    def _buckets(self) -> tuple[int, ...]:
        from trine.backends.cuda.build import bucket_sizes

        sizes = self.config.buckets
        if not self._rows_vary():
            fixed = {int(info.shape[0]) for info in self.inputs if info.shape and isinstance(info.shape[0], int)}
            if sizes is not None and set(sizes) != fixed:
                raise ConfigError(f"buckets: {sizes}, but the engine takes {sorted(fixed)} rows only; leave it out")
            return (max(fixed, default=1),)
        shapes = self.profile.ranges[self.inputs[0].name]
        if sizes is None:
            return bucket_sizes(shapes.min[0], shapes.opt[0], shapes.max[0])
        if sizes[-1] > shapes.max[0]:
            raise ConfigError(f"buckets: {sizes[-1]} rows are more than the profile's {shapes.max[0]}; raise batch=")
        return sizes

    def _timer(self) -> DeviceTimer | None:
        """For the GPU here; None when a target is named and no such GPU is here.

        Raises NoDeviceError and MissingDependencyError when none is named, and none is here that engines are built for.
        """
        from trine.backends.cuda.device_timer import DeviceTimer

        try:
            timer = DeviceTimer()
        except (NoDeviceError, MissingDependencyError) as err:
            if self.config.target is None:
                text = f'device="cuda": {err}. To build for another GPU, name its architecture: target="sm_90"'
                if isinstance(err, MissingDependencyError):
                    raise MissingDependencyError(text, name=err.name) from err
                raise NoDeviceError(text) from err
            log.info("no GPU to time kernels on (%s); choosing by what is remembered", err)
            return None
        if self.config.target not in (None, timer.target_name):
            log.info("this GPU is %s, not %s; choosing by what is remembered", timer.target_name, self.config.target)
            timer.close()
            return None
        return timer
