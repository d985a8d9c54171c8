"""From an engine file to an engine that runs: read, check, compile the plan for this machine."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Literal

from trine.engine.engine import Engine
from trine.engine.format import PLAN_PREFIX, read_engine
from trine.engine.manifest import Manifest
from trine.engine.portable_graph import PortableGraph
from trine.errors import BuildError, ConfigError, MissingDependencyError
from trine.runtime.cpu import CpuPlan, compile_cpu_plan, import_backend, quick_plan
from trine.runtime.cpu.features import cpu_model
from trine.runtime.cuda.choose_device import open_on_gpu
from trine.runtime.executor import Executor
from trine.runtime.tensorrt.choose_device import open_on_tensorrt
from trine.runtime.tiered import TieredExecutor
from trine.versions import package_version

__all__ = ["load"]

log = logging.getLogger("trine")

MAX_THREADS = 4096
CPU_PLAN = "cpu"  # the name of the plan for CPUs in an engine file


def load(
    source: str | Path | bytes,
    *,
    device: str | None = None,
    threads: int | None = None,
    tiered: bool = False,
    capture: Literal["first_use", "build"] = "first_use",
) -> Engine:
    """Load an engine from a file, or from the bytes of one.

    Args:
        source: the path that ``Engine.save`` wrote, or the bytes that ``Engine.serialize`` gave.
        device: "cpu"; "cuda" or "cuda:1" for an NVIDIA GPU; "tensorrt" for the plan that TensorRT built, on the first
            GPU; None: the GPU if the engine has kernels or a plan of TensorRT's for the one here, else the CPU.
        threads: how many threads a call may use on the CPU; 0: every core; None keeps what the engine was built with.
        tiered: answer sooner, at full speed later. The first calls run a plan that compiles quickly (ONNX Runtime in
            fp32, weights unpacked); the engine's own plan is compiled in a thread that starts with the second call,
            and then takes over. Between the two, answers may differ by rounding, within what was verified. For
            processes that start often and answer little.
        capture: when a context on a GPU makes the CUDA graph for a number of rows: at its "first_use", or all of them
            when the context is created ("build"), each launched once on zeros. No later call then makes a graph, loads
            a kernel or takes memory, but for one with NumPy arrays of more rows than the largest bucket.

    The graph is compiled for this machine. Where the plan was made for another CPU, or with other library
    versions, that is logged; where the backend that it chose is missing here, the other one is taken.

    Raises:
        EngineFormatError: the file is damaged or no engine; ``section`` says where.
        BuildError: no backend here can run the graph.
        MissingDependencyError: no backend is installed.
        NoDeviceError: a GPU was asked for, and there is none that the engine has kernels or a plan for.
        DeviceMemoryError: the weights do not fit the GPU.
        ConfigError: ``device``, ``capture`` or ``threads`` is none of these.
    """
    if threads is not None and not (isinstance(threads, int) and 0 <= threads <= MAX_THREADS):
        raise ConfigError(f"threads: expected a whole number up to {MAX_THREADS}, or 0 for every core, got {threads!r}")
    contents = read_engine(Path(source).expanduser() if isinstance(source, str) else source, check="header")
    plans: dict[str, bytes | memoryview] = dict(contents.plans)
    manifest, graph = contents.manifest, contents.graph

    def verify(section: str) -> None:
        contents.verify_checksums([section])

    on_gpu = open_on_tensorrt(device, contents.plans, manifest, verify) or open_on_gpu(
        device, contents.plans, manifest, capture=capture, graph=graph, verify=verify
    )
    if on_gpu is not None:
        return Engine(manifest, graph, plans, on_gpu[0], on_gpu[1], owner=contents)
    if CPU_PLAN in plans:
        verify(PLAN_PREFIX + CPU_PLAN)
    plan = CpuPlan.from_bytes(bytes(plans[CPU_PLAN])) if CPU_PLAN in plans else None
    if threads is not None and plan is not None:
        plan = CpuPlan(plan.tactic, threads, plan.options, plan.cpu, plan.versions)
    backend = plan.tactic if plan is not None and not tiered else "onnxruntime"
    importing = threading.Thread(target=import_backend, args=(backend,), name="trine-import", daemon=True)
    importing.start()  # while the weights are hashed, which leaves the interpreter free
    contents.verify_checksums(["weights"])
    tiers = _compile_tiered(plan, manifest, graph) if tiered and plan is not None else None
    if plan is not None and tiers is not None:
        return Engine(manifest, graph, plans, plan, tiers, owner=contents)
    plan, executor = _compile(plan, manifest, graph, threads or 0)
    return Engine(manifest, graph, plans, plan, executor, owner=contents)


def _compile(plan: CpuPlan | None, manifest: Manifest, graph: PortableGraph, threads: int) -> tuple[CpuPlan, Executor]:
    """The plan's own backend first, then the other one at the same precision."""
    if plan is None:
        log.warning(
            "%s: the engine holds no plan for CPUs that this trine knows; compiling its graph in fp32", manifest.name
        )
        candidates = [CpuPlan("openvino", threads, {"precision": "fp32"}), CpuPlan("onnxruntime", threads)]
    else:
        _log_differences(plan, manifest.name)
        candidates = [plan]
        if plan.tactic == "openvino":
            candidates.append(CpuPlan("onnxruntime", plan.threads))
        else:
            candidates.append(CpuPlan("openvino", plan.threads, {"precision": "fp32"}))
    failures: list[str] = []
    missing: MissingDependencyError | None = None
    for candidate in candidates:
        try:
            executor = compile_cpu_plan(candidate, graph, manifest.inputs, manifest.outputs)
        except MissingDependencyError as err:
            missing = err
            failures.append(f"{candidate.tactic}: {err}")
        except BuildError as err:
            failures.append(f"{candidate.tactic}: {err}")
        else:
            if failures:
                log.warning("%s: running with %s, because %s", manifest.name, candidate.tactic, "; ".join(failures))
            return candidate, executor
    if missing is not None and len(failures) == len(candidates):
        raise MissingDependencyError("no backend can run this engine here: " + "; ".join(failures)) from missing
    raise BuildError("no backend can run this engine here: " + "; ".join(failures))


def _compile_tiered(plan: CpuPlan, manifest: Manifest, graph: PortableGraph) -> TieredExecutor | None:
    """None where the quick plan's backend is missing or refuses the graph: then there is only the plan itself."""
    try:
        first = compile_cpu_plan(quick_plan(plan), graph, manifest.inputs, manifest.outputs)
    except (BuildError, MissingDependencyError) as err:
        log.info("%s: no first tier (%s); compiling its plan", manifest.name, err)
        return None
    return TieredExecutor(first, lambda: _compile(plan, manifest, graph, plan.threads)[1])


def _log_differences(plan: CpuPlan, name: str) -> None:
    """Say so when the plan comes from elsewhere: it still holds, but its timings do not."""
    differences = []
    if plan.cpu != cpu_model():
        differences.append(f"built on {plan.cpu!r}, this is {cpu_model()!r}")
    built_with, here = plan.versions.get(plan.tactic), package_version(plan.tactic)
    if built_with != here:
        differences.append(f"built with {plan.tactic} {built_with}, this is {here}")
    if differences:
        log.info("%s: recompiling from the graph: %s", name, "; ".join(differences))
