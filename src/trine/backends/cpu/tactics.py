"""The whole-graph CPU tactics: when each can serve a precision, and the plan that it would run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trine.backends.tactic import Support
from trine.errors import MissingDependencyError
from trine.runtime.cpu import CpuPlan
from trine.runtime.cpu.features import cpu_model
from trine.versions import installed_versions

__all__ = ["CPU_TACTICS", "CpuTactic", "OnnxRuntimeTactic", "OpenVinoTactic"]


class CpuTactic(Protocol):
    """One backend for the whole graph."""

    @property
    def name(self) -> str:
        """What users call it in ``tactics=``."""
        ...

    def supports(self, precision: str) -> Support:
        """Whether this backend computes in ``precision`` ("fp32", "bf16", "fp16") on this machine."""
        ...

    def plan(self, precision: str, threads: int) -> CpuPlan:
        """The plan that the engine would carry."""
        ...


@dataclass(frozen=True)
class OpenVinoTactic:
    """OpenVINO: fused and blocked kernels, bf16 and fp16 where the CPU has instructions for them."""

    name: str = "openvino"

    def supports(self, precision: str) -> Support:
        """See CpuTactic."""
        from trine.runtime.cpu.openvino_executor import supported_precisions

        try:
            known = supported_precisions()
        except MissingDependencyError as err:
            return Support((str(err),))
        if precision not in known:
            needs = {"bf16": "avx512_bf16 or amx_bf16", "fp16": "avx512_fp16 or amx_fp16"}[precision]
            return Support((f"this CPU does not compute in {precision} (it would need {needs})",))
        return Support()

    def plan(self, precision: str, threads: int) -> CpuPlan:
        """See CpuTactic."""
        options = {"precision": precision, "hint": "LATENCY"}
        return CpuPlan(self.name, threads, options, cpu_model(), installed_versions([self.name]))


@dataclass(frozen=True)
class OnnxRuntimeTactic:
    """ONNX Runtime: more operators; computes in the graph's own types only."""

    name: str = "onnxruntime"

    def supports(self, precision: str) -> Support:
        """See CpuTactic."""
        from trine.runtime.cpu.onnxruntime_executor import load_onnxruntime

        try:
            load_onnxruntime()
        except MissingDependencyError as err:
            return Support((str(err),))
        if precision != "fp32":
            return Support((f"ONNX Runtime's CPU kernels do not lower a graph to {precision}",))
        return Support()

    def plan(self, precision: str, threads: int) -> CpuPlan:
        """See CpuTactic."""
        return CpuPlan(self.name, threads, {"optimization": "all"}, cpu_model(), installed_versions([self.name]))


CPU_TACTICS: tuple[CpuTactic, ...] = (OpenVinoTactic(), OnnxRuntimeTactic())
