"""Running on the CPU: a plan names a whole-graph backend and its options; the graph is compiled when loaded."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import EngineFormatError
from trine.runtime.cpu.import_openvino import import_openvino
from trine.runtime.executor import Executor

__all__ = ["CpuPlan", "compile_cpu_plan", "import_backend", "quick_plan"]


@dataclass(frozen=True)
class CpuPlan:
    """The builder's choice for CPUs. Small and readable: what it compiles to is made anew on each machine."""

    tactic: str  # "openvino" or "onnxruntime"
    threads: int  # 0: as many as the process may use
    options: Mapping[str, Any] = field(default_factory=dict)
    cpu: str = ""  # where it was timed
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As JSON, for the engine file's section "plan/cpu"."""
        return json.dumps(
            {
                "tactic": self.tactic,
                "threads": self.threads,
                "options": dict(self.options),
                "cpu": self.cpu,
                "versions": dict(self.versions),
            },
            sort_keys=True,
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> CpuPlan | None:
        """Read what ``to_bytes`` wrote; None for a plan with more in it than is known here, as a newer trine's may be.

        Raises EngineFormatError for what is no plan.
        """
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as err:
            raise EngineFormatError(f"not JSON ({err}); build the engine again", "plan/cpu") from err
        expected = {"tactic": str, "threads": int, "options": dict, "cpu": str, "versions": dict}
        if not isinstance(fields, dict) or not fields.keys() >= expected.keys():
            raise EngineFormatError(f"expected the keys {sorted(expected)}; build the engine again", "plan/cpu")
        for key, kind in expected.items():
            if not isinstance(fields[key], kind) or isinstance(fields[key], bool):
                raise EngineFormatError(f"{key}: expected {kind.__name__}; build the engine again", "plan/cpu")
        if not 0 <= fields["threads"] <= 4096:
            raise EngineFormatError(f"{fields['threads']} threads; build the engine again", "plan/cpu")
        unknown = [key for key, value in fields["options"].items() if value not in _OPTIONS.get(key, ())]
        if fields["tactic"] not in ("openvino", "onnxruntime") or unknown or fields.keys() != expected.keys():
            return None
        return cls(**fields)


_OPTIONS: dict[str, tuple[str, ...]] = {
    "precision": ("fp32", "bf16", "fp16"),
    "hint": ("LATENCY", "THROUGHPUT"),
    "optimization": ("all", "basic", "none"),
    "weights": ("packed", "fed"),
}


def quick_plan(plan: CpuPlan) -> CpuPlan:
    """The plan that compiles soonest, for a first answer: few rewrites, weights read where they lie.

    It computes in fp32, whatever ``plan`` does: never less exact than what was verified. Of the CPU's backends,
    ONNX Runtime is imported and gets ready in a fraction of OpenVINO's time.
    """
    return CpuPlan("onnxruntime", plan.threads, {"optimization": "basic", "weights": "fed"})


def import_backend(tactic: str) -> None:
    """Import a tactic's library, if it is installed. Takes 0.05 to 0.15 s, in a thread beside other work."""
    with contextlib.suppress(ImportError):
        if tactic == "openvino":
            import_openvino()
        else:
            importlib.import_module(tactic)


def compile_cpu_plan(
    plan: CpuPlan, graph: PortableGraph, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> Executor:
    """Compile ``graph`` as ``plan`` says. Imports only the backend that it names.

    Raises BuildError when the backend refuses the graph, MissingDependencyError when it is not installed.
    """
    from trine.runtime.cpu.features import usable_cores

    threads = plan.threads or usable_cores()
    if plan.tactic == "openvino":
        from trine.runtime.cpu.openvino_executor import OpenVinoExecutor

        return OpenVinoExecutor(graph, inputs, outputs, threads=threads, options=plan.options)
    from trine.runtime.cpu.onnxruntime_executor import OnnxRuntimeExecutor

    return OnnxRuntimeExecutor(graph, inputs, outputs, threads=threads, options=plan.options)
