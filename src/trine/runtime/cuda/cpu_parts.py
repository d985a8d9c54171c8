"""The parts of a CUDA plan's graph that the CPU computes, compiled as a whole graph for CPUs is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph, Weight
from trine.errors import BuildError, MissingDependencyError
from trine.runtime.cpu import CpuPlan, compile_cpu_plan
from trine.runtime.cuda.plan import CpuPart
from trine.runtime.executor import Executor

__all__ = ["open_part"]

_TACTICS = ("onnxruntime", "openvino")  # the one that takes more operators first


def open_part(part: CpuPart, threads: int) -> Executor:
    """What computes a part. ``threads``: 0 for as many as the process may use.

    Raises BuildError when nothing that is installed takes it, MissingDependencyError when nothing is installed.
    """
    weights = tuple(
        Weight(name, DataType(dtype), shape, np.frombuffer(data, np.uint8)) for name, dtype, shape, data in part.weights
    )
    graph = PortableGraph(part.model, weights)
    inputs, outputs = _infos(part.inputs), _infos(part.outputs)
    failures: list[str] = []
    missing: list[MissingDependencyError] = []
    for tactic in _TACTICS:
        options = {"precision": "fp32"} if tactic == "openvino" else {}
        try:
            return compile_cpu_plan(CpuPlan(tactic, threads, options), graph, inputs, outputs)
        except MissingDependencyError as err:
            missing.append(err)
        except BuildError as err:
            failures.append(str(err))
    if not failures:
        raise MissingDependencyError(
            "part of this engine runs on the CPU, by ONNX Runtime or OpenVINO, and neither is installed: "
            "pip install onnxruntime"
        ) from missing[0]
    names = ", ".join(f"{node['name']} ({node['op']})" for node in part.nodes[:5])
    raise BuildError(f"nothing here can compute {names} on the CPU: {'; '.join(failures)}")


def _infos(edges: Sequence[tuple[str, str]]) -> tuple[TensorInfo, ...]:
    """The executors ask for names and types only: shapes are what they turn out to be."""
    return tuple(TensorInfo(name, DataType(dtype), ()) for name, dtype in edges)
