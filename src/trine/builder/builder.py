"""The builder: import, change, compile, time, verify. Read ``build`` from top to bottom."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trine.backends.cpu.tactics import CPU_TACTICS, CpuTactic
from trine.builder.config import BuilderConfig
from trine.builder.fixed_shapes import fix_shapes
from trine.builder.freeze import freeze, tensor_infos
from trine.builder.profiles import choose_profile, requested_axes
from trine.builder.stages import Stages
from trine.builder.timing import time_interleaved
from trine.builder.timing_cache import TimingCache, graph_signature, timing_key
from trine.engine.engine import Engine
from trine.engine.manifest import Manifest, TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import AccuracyError, BuildError, ConfigError, UnsupportedError
from trine.importers import import_model, is_network
from trine.importers.imported_model import ImportedModel
from trine.passes.pipeline import run_passes
from trine.profile import OptimizationProfile, ShapeRange
from trine.runtime.context import ExecutionContext
from trine.runtime.cpu import CpuPlan, compile_cpu_plan
from trine.runtime.cpu.features import cpu_model, usable_cores
from trine.runtime.executor import Executor
from trine.runtime.runtime import CPU_PLAN
from trine.verify.comparator import compare
from trine.verify.inputs import build_cases, random_inputs
from trine.verify.neighbours import BatchAxis, batch_axis
from trine.verify.report import Report
from trine.versions import installed_versions

__all__ = ["build"]

log = logging.getLogger("trine")

_LOWER_PRECISIONS = ("bf16", "fp16")
_PACKAGES = ("trine", "numpy", "openvino", "onnxruntime", "onnx", "onnx-ir", "onnxscript", "torch")


def build(source: Any, example_inputs: Any = None, *, config: BuilderConfig | None = None, **options: Any) -> Engine:
    """Turn a trained model into a verified engine.

    Args:
        source: a ``torch.nn.Module``; a path to an ONNX file, or its bytes; or a ``trine.Network``.
        example_inputs: for a module its arguments: a tensor, a tuple of them, or a dict of keyword arguments.
            Optional for ONNX and networks, for which random inputs are made up.
        config: the options as a BuilderConfig; or give them as keywords, see there.

    Returns:
        An engine that answers as the source does, within the accuracy budget.

    Raises:
        ConfigError: an option is unknown or does not fit the model.
        ModelImportError, UnsupportedError: the model cannot be imported, or no backend can run it.
        AccuracyError: every candidate answers differently from the source by more than the budget.
        BuildError: nothing that compiled could run.
    """
    if config is not None and options:
        raise ConfigError(f"give options either as config= or as keywords, not both; got {sorted(options)} too")
    config = config or BuilderConfig.from_options(**options)
    stages = Stages(show=config.progress)

    with stages("import"):
        imported = _import(source, example_inputs, config, stages)
        inputs, outputs = tensor_infos(imported.model)
        profile = choose_profile(inputs, imported.example_inputs, config)
        rows = batch_axis(inputs, outputs, profile)
        fix_shapes(imported.model, profile.ranges)

    with stages("passes"):
        nodes_before = _count_nodes(imported)
        records = run_passes(imported.model, on_pass=lambda name: stages.detail(f"passes: {name}"))
        inputs, outputs = tensor_infos(imported.model)
        graph = freeze(imported.model)

    candidates = _candidates(config)
    task = _Task(config, graph, inputs, outputs, profile, rows, imported, stages)
    with stages("compile"):
        task.compile(candidates)
    with stages("time"):
        ranked = task.time(candidates)
    with stages("verify"):
        chosen, report = task.verify(ranked)

    chosen.chosen = True
    assert chosen.plan is not None
    manifest = Manifest(
        name=imported.name,
        source=imported.source,
        inputs=inputs,
        outputs=outputs,
        profile=profile,
        precision=chosen.precision,
        input_structure=imported.input_structure,
        output_structure=imported.output_structure,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=installed_versions(_PACKAGES),
        evidence=None if report is None else report.to_json(),
        build={
            "device": config.device,
            "cpu": cpu_model(),
            "threads": config.threads or usable_cores(),
            "stages": stages.seconds,
            "passes": [{"name": record.name, "changed": record.changed} for record in records],
            "nodes_before": nodes_before,
            "nodes_after": _count_nodes(imported),
            "tactics": [candidate.to_json() for candidate in candidates],
        },
    )
    executor = chosen.executor
    assert executor is not None
    return Engine(manifest, graph, {CPU_PLAN: chosen.plan.to_bytes()}, chosen.plan, executor)


def _import(source: Any, example_inputs: Any, config: BuilderConfig, stages: Stages) -> ImportedModel:
    """Import with what the options say of shapes."""
    is_module = not is_network(source) and not isinstance(source, str | os.PathLike | bytes | bytearray | memoryview)
    batch = config.batch
    return import_model(
        source,
        example_inputs,
        dynamic_axes=requested_axes(config) or "auto",
        batch="dynamic" if isinstance(batch, tuple) and batch[0] != batch[2] else "auto",
        # BuilderConfig has made a ShapeRange of each; only its type still allows a tuple.
        shapes=None if is_module else {k: v.opt for k, v in config.shapes.items() if isinstance(v, ShapeRange)},
        seed=config.seed,
        on_stage=lambda name: stages.detail(f"import: {name}"),
    )


@dataclass
class _Candidate:
    """One tactic at one precision, and what became of it."""

    tactic: CpuTactic
    precision: str
    plan: CpuPlan | None = None
    executor: Executor | None = None
    latency_ms: float | None = None
    reasons: list[str] = field(default_factory=list)
    chosen: bool = False

    @property
    def label(self) -> str:
        return f"{self.tactic.name} {self.precision}"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.tactic.name,
            "precision": self.precision,
            "chosen": self.chosen,
            "latency_ms": self.latency_ms,
            "reasons": list(self.reasons),
            "options": dict(self.plan.options) if self.plan is not None else {},
        }


def _candidates(config: BuilderConfig) -> list[_Candidate]:
    """Every tactic at every precision asked for; those that cannot, with the reason.

    Raises ConfigError when none can.
    """
    precisions = ("fp32", *_LOWER_PRECISIONS) if config.precision == "best" else (config.precision,)
    found = []
    for precision in precisions:
        for tactic in CPU_TACTICS:
            candidate = _Candidate(tactic, precision)
            if config.tactics is not None and tactic.name not in config.tactics:
                candidate.reasons.append("not among tactics=")
            else:
                candidate.reasons.extend(tactic.supports(precision).reasons)
            if not candidate.reasons:
                candidate.plan = tactic.plan(precision, config.threads or 0)
            found.append(candidate)
    if all(candidate.reasons for candidate in found):
        reasons = "; ".join(f"{candidate.tactic.name}: {candidate.reasons[0]}" for candidate in found)
        raise ConfigError(
            f"precision {config.precision!r} cannot be had on this machine: {reasons}. "
            'Ask for precision="fp32", or "best" for the fastest that this machine has'
        )
    return found


@dataclass
class _Task:
    """What the stages after the passes share."""

    config: BuilderConfig
    graph: PortableGraph
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    profile: OptimizationProfile
    rows: BatchAxis | None
    imported: ImportedModel
    stages: Stages

    def compile(self, candidates: list[_Candidate]) -> None:
        """Compile what can be; where timings are remembered for all, only the fastest of them."""
        cache = TimingCache(self.config.timing_cache)
        self._cache, self._signature = cache, graph_signature(self.graph)
        able = [candidate for candidate in candidates if candidate.plan is not None]
        for candidate in able:
            candidate.latency_ms = cache.get(self._key(candidate))
        remembered = [candidate for candidate in able if candidate.latency_ms is not None]
        self._cached = len(remembered) == len(able)
        if self._cached:
            able = sorted(remembered, key=_by_latency)
        for candidate in able:
            if self._cached and any(other.executor is not None for other in able):
                break  # the others are compiled only if this one should fail its verification
            self._compile_one(candidate)
        if all(candidate.executor is None for candidate in able):
            problems = [f"{candidate.label}: {reason}" for candidate in candidates for reason in candidate.reasons]
            raise UnsupportedError(
                f"{self.imported.name}: no backend here can run this graph:\n  " + "\n  ".join(problems),
                problems,
            )

    def _compile_one(self, candidate: _Candidate) -> None:
        assert candidate.plan is not None
        self.stages.detail(f"compile: {candidate.label}")
        try:
            candidate.executor = compile_cpu_plan(candidate.plan, self.graph, self.inputs, self.outputs)
        except BuildError as err:
            candidate.reasons.append(str(err))
            log.info("%s: %s", candidate.label, err)

    def _key(self, candidate: _Candidate) -> str:
        assert candidate.plan is not None
        return timing_key(
            self._signature,
            self.profile,
            candidate.label,
            threads=self.config.threads or usable_cores(),
            device=cpu_model(),
            versions=candidate.plan.versions,
        )

    def time(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """Those that compiled, the fastest first."""
        if self._cached:
            return sorted((c for c in candidates if c.plan is not None), key=_by_latency)
        ready = [candidate for candidate in candidates if candidate.executor is not None]
        example = self.imported.example_inputs
        opt = random_inputs(self.inputs, self.profile.shapes("opt"), self.config.seed, example)
        calls = {}
        for candidate in ready:
            context = self._context(candidate)
            try:
                context.execute(opt)
            except RuntimeError as err:
                candidate.reasons.append(f"failed while running: {' '.join(str(err).split())[:600]}")
                candidate.executor = None
                continue
            calls[candidate.label] = lambda context=context: context.execute(opt)
        ready = [candidate for candidate in ready if candidate.executor is not None]
        if not ready:
            refusals = {candidate.label: "; ".join(candidate.reasons) for candidate in candidates}
            lines = "\n  ".join(f"{label}: {reason}" for label, reason in refusals.items())
            raise BuildError(f"{self.imported.name}: nothing that compiled could run:\n  {lines}", refusals)
        if len(ready) > 1 or self.config.timing_cache is not None:
            for label, latency_ms in time_interleaved(calls).items():
                candidate = next(c for c in ready if c.label == label)
                candidate.latency_ms = latency_ms
                self._cache.put(self._key(candidate), latency_ms)
            if all(c.executor is not None for c in candidates if c.plan is not None):
                self._cache.save()
        return sorted(ready, key=_by_latency)

    def _context(self, candidate: _Candidate) -> ExecutionContext:
        assert candidate.executor is not None
        return ExecutionContext(candidate.executor, self.inputs, self.outputs, self.profile.ranges)

    def verify(self, ranked: list[_Candidate]) -> tuple[_Candidate, Report | None]:
        """The fastest candidate whose answers are right, with the evidence.

        Raises AccuracyError with the fastest one's table when none is.
        """
        first: Report | None = None
        for candidate in ranked:
            if candidate.executor is None:
                if candidate.reasons:
                    continue
                self._compile_one(candidate)
                if candidate.executor is None:
                    continue
            if not self.config.verify:
                return candidate, None
            self.stages.detail(f"verify: {candidate.label}")
            report = self._report(candidate)
            if report.passed:
                return candidate, report
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

    def _report(self, candidate: _Candidate) -> Report:
        cases = build_cases(self.profile, self.imported.example_inputs, self.inputs, self.config.seed)
        context = self._context(candidate)

        def run(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return context.execute(arrays)

        return compare(
            run,
            self.imported.reference,
            cases,
            self.config.accuracy_budget,
            precision=candidate.precision,
            seed=self.config.seed,
            axis=self.rows,
        )


def _by_latency(candidate: _Candidate) -> float:
    return float("inf") if candidate.latency_ms is None else candidate.latency_ms


def _count_nodes(imported: ImportedModel) -> int:
    return sum(1 for _ in imported.model.graph.all_nodes())
