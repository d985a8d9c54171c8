"""The part of a build that is for CPUs: whole-graph tactics, compiled, timed in turns, remembered."""

from __future__ import annotations

import logging

from trine.backends.cpu.tactics import CPU_TACTICS
from trine.builder.task import Candidate, Plan, Task
from trine.builder.timing import time_interleaved
from trine.builder.timing_cache import TimingCache, graph_signature, timing_key
from trine.errors import BuildError, ConfigError, UnsupportedError
from trine.runtime.cpu import CpuPlan, compile_cpu_plan
from trine.runtime.cpu.features import cpu_model, usable_cores
from trine.runtime.executor import Executor
from trine.runtime.runtime import CPU_PLAN
from trine.verify.inputs import random_inputs

__all__ = ["CpuTask"]

log = logging.getLogger("trine")

_LOWER_PRECISIONS = ("bf16", "fp16")


class CpuTask(Task):
    """Candidates are every tactic at every precision asked for."""

    def candidates(self) -> list[Candidate]:
        """Every tactic at every precision asked for; those that cannot, with the reason.

        Raises ConfigError when none can.
        """
        config = self.config
        precisions = ("fp32", *_LOWER_PRECISIONS) if config.precision == "best" else (config.precision,)
        found = []
        for precision in precisions:
            for tactic in CPU_TACTICS:
                candidate = Candidate(tactic, precision)
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

    def compile(self, candidates: list[Candidate]) -> None:
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
            self.compile_one(candidate)
        if all(candidate.executor is None for candidate in able):
            problems = [f"{candidate.label}: {reason}" for candidate in candidates for reason in candidate.reasons]
            raise UnsupportedError(
                f"{self.imported.name}: no backend here can run this graph:\n  " + "\n  ".join(problems),
                problems,
            )

    def compile_one(self, candidate: Candidate) -> None:
        assert isinstance(candidate.plan, CpuPlan)
        self.stages.detail(f"compile: {candidate.label}")
        try:
            candidate.executor = compile_cpu_plan(candidate.plan, self.graph, self.inputs, self.outputs)
        except BuildError as err:
            candidate.reasons.append(str(err))
            log.info("%s: %s", candidate.label, err)

    def _key(self, candidate: Candidate) -> str:
        assert isinstance(candidate.plan, CpuPlan)
        return timing_key(
            self._signature,
            self.profile,
            candidate.label,
            threads=self.config.threads or usable_cores(),
            device=cpu_model(),
            versions=candidate.plan.versions,
        )

    def time(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those that compiled, the fastest first."""
        if self._cached:
            return sorted((c for c in candidates if c.plan is not None), key=_by_latency)
        ready = [candidate for candidate in candidates if candidate.executor is not None]
        example = self.imported.example_inputs
        opt = random_inputs(self.inputs, self.profile.shapes("opt"), self.config.seed, example)
        calls = {}
        for candidate in ready:
            context = self.context(candidate)
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

    def finish(self, chosen: Candidate) -> tuple[dict[str, bytes], Plan, Executor]:
        """The engine's plans by name, the one that runs here, and its executor."""
        assert isinstance(chosen.plan, CpuPlan)
        assert chosen.executor is not None
        return {CPU_PLAN: chosen.plan.to_bytes()}, chosen.plan, chosen.executor


def _by_latency(candidate: Candidate) -> float:
    return float("inf") if candidate.latency_ms is None else candidate.latency_ms
