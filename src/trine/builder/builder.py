"""The builder: import, change, compile, time, verify. Read ``_build`` from top to bottom."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
import threading
from typing import Any

from trine.builder.config import BuilderConfig
from trine.builder.cpu import CpuTask
from trine.builder.fixed_shapes import fix_shapes
from trine.builder.freeze import freeze, tensor_infos
from trine.builder.profiles import choose_profile, requested_axes
from trine.builder.stages import Stages
from trine.builder.task import NothingForGpuError, Task
from trine.engine.engine import Engine
from trine.engine.manifest import Manifest
from trine.errors import ConfigError
from trine.importers import import_model, is_network
from trine.importers.imported_model import ImportedModel
from trine.passes.pipeline import run_passes
from trine.profile import ShapeRange
from trine.runtime.cpu.features import cpu_model, usable_cores
from trine.verify.neighbours import batch_axis
from trine.versions import installed_versions

__all__ = ["build"]

log = logging.getLogger("trine")

# PyTorch's export changes what all threads share, and timings want the machine to themselves. Reentrant: what a module
# or a converter calls may build.
_one_build_at_a_time = threading.RLock()

_PACKAGES = ("trine", "numpy", "openvino", "onnxruntime", "onnx", "onnx-ir", "onnxscript", "torch", "triton")


def build(source: Any, example_inputs: Any = None, *, config: BuilderConfig | None = None, **options: Any) -> Engine:
    """Turn a trained model into a verified engine.

    Args:
        source: a ``torch.nn.Module``; a path to an ONNX file, or its bytes; or a ``trine.Network``.
        example_inputs: for a module its arguments: a tensor, a tuple of them, or a dict of keyword arguments.
            Optional for ONNX and networks, for which random inputs are made up.
        config: the options as a BuilderConfig; or give them as keywords, see there.

    Builds in several threads take turns.

    Returns:
        An engine that answers as the source does, within the accuracy budget.

    Raises:
        ConfigError: an option is unknown or does not fit the model.
        ModelImportError, UnsupportedError: the model cannot be imported, or no backend can run it.
        AccuracyError: every candidate answers differently from the source by more than the budget.
        BuildError: nothing that compiled could run.
        MissingDependencyError: building needs a package that is not installed.
        NoDeviceError: ``device="cuda"`` without a ``target``, and no GPU here that engines are built for.
        DeviceMemoryError: the GPU has too little free memory to time kernels, or to run the engine.
    """
    if config is not None and options:
        raise ConfigError(f"give options either as config= or as keywords, not both; got {sorted(options)} too")
    if config is not None and not isinstance(config, BuilderConfig):
        raise ConfigError(f"config: expected a BuilderConfig, got {type(config).__name__}; give options as keywords")
    with _one_build_at_a_time:
        return _build(source, example_inputs, config or BuilderConfig.from_options(**options))


def _build(source: Any, example_inputs: Any, config: BuilderConfig) -> Engine:
    """``build``, with its options settled."""
    stages = Stages(show=config.progress)

    with stages("import"):
        imported = _import(source, example_inputs, config, stages)
        inputs, outputs = tensor_infos(imported.model)
        profile = choose_profile(inputs, imported.example_inputs, config, made_up=example_inputs is None)
        rows = batch_axis(inputs, outputs, profile)
        fix_shapes(imported.model, profile.ranges)

    with stages("passes"):
        nodes_before = _count_nodes(imported)
        records = run_passes(imported.model, on_pass=lambda name: stages.detail(f"passes: {name}"))
        inputs, outputs = tensor_infos(imported.model)
        graph = freeze(imported.model)

    task = _task_kind(config)(config, graph, inputs, outputs, profile, rows, imported, stages)
    candidates = task.candidates()
    with stages("compile"):
        try:
            task.compile(candidates)
        except NothingForGpuError as err:
            log.warning("%s; building for the CPU, in fp32", err)
            config = dataclasses.replace(config, device="cpu", target=None, precision="fp32")
            task = CpuTask(config, graph, inputs, outputs, profile, rows, imported, stages)
            candidates = task.candidates()
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
    plans, plan, executor = task.finish(chosen)
    return Engine(manifest, task.graph, plans, plan, executor)


def _task_kind(config: BuilderConfig) -> type[Task]:
    if config.device == "cuda":
        from trine.builder.cuda import CudaTask

        return CudaTask
    if config.device == "tensorrt":
        from trine.builder.tensorrt import TensorRTTask

        return TensorRTTask
    return CpuTask


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


def _count_nodes(imported: ImportedModel) -> int:
    return sum(1 for _ in imported.model.graph.all_nodes())
