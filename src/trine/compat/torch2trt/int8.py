"""torch2trt's INT8 mode: the module's graph, calibrated on a dataset, with quantise and dequantise pairs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

import trine
from trine.builder.config import BuilderConfig
from trine.builder.profiles import requested_axes
from trine.compat.tensorrt.int8_builds import METHODS
from trine.compat.torch2trt.flattener import Flattener
from trine.engine.engine import Engine
from trine.errors import ConfigError, InputError
from trine.importers import import_model
from trine.passes.pipeline import run_passes
from trine.profile import ShapeRange
from trine.verify.metrics import measure
from trine.verify.tolerances import BUDGETS

__all__ = ["build_int8"]

log = logging.getLogger("trine")


def build_int8(
    named: torch.nn.Module,
    example: Mapping[str, torch.Tensor],
    shapes: Mapping[str, ShapeRange],
    *,
    takes: Flattener,
    dataset: Any,
    algorithm: Any,
) -> Engine:
    """An engine whose convolutions and matrix products compute in integers, where the backend can.

    dataset: a sequence of calls' inputs, in the structure of ``takes``, with a batch dimension or without. algorithm:
    a member of trt.CalibrationAlgoType, or None for ENTROPY_CALIBRATION_2. The builder compares the engine with the
    quantised network; how far both are from ``named`` is logged, as a warning where it is more than INT8's budget.

    Raises ConfigError for an empty dataset or another algorithm, InputError for items of other shapes.
    """
    import onnx_ir as ir

    from trine.precision.int8 import calibrate, with_pairs

    name = "ENTROPY_CALIBRATION_2" if algorithm is None else str(getattr(algorithm, "name", algorithm))
    if name not in METHODS:
        raise ConfigError(f"int8_calib_algorithm: {algorithm!r} is unknown; allowed: {', '.join(METHODS)}")
    if not len(dataset):
        raise ConfigError("int8_calib_dataset is empty; give at least one item")
    config = BuilderConfig.from_options(shapes=dict(shapes))
    imported = import_model(
        named,
        dict(example),
        dynamic_axes=requested_axes(config) or "auto",
        batch="auto",
        shapes=None,
        seed=config.seed,
    )
    run_passes(imported.model)
    model = ir.to_proto(imported.model)
    amax = calibrate(model, _batches(dataset, example, takes), METHODS[name])
    engine = trine.build(
        with_pairs(model, amax).SerializeToString(),
        {name: tensor.detach().cpu().numpy() for name, tensor in example.items()},
        shapes=dict(shapes),
        accuracy_budget=BUDGETS["int8"],
    )
    _compare(engine, imported.reference, next(_batches(dataset, example, takes)))
    return engine


def _batches(dataset: Any, example: Mapping[str, torch.Tensor], takes: Flattener) -> Iterator[dict[str, np.ndarray]]:
    for index in range(len(dataset)):
        tensors: Sequence[torch.Tensor] = takes.flatten(tuple(dataset[index]), f"int8_calib_dataset[{index}]")
        found = {}
        for (name, like), tensor in zip(example.items(), tensors, strict=True):
            whole = tensor.unsqueeze(0) if tensor.ndim == like.ndim - 1 else tensor
            if whole.ndim != like.ndim:
                raise InputError(
                    f"int8_calib_dataset[{index}], {name}: expected the rank of {tuple(like.shape)}, with or without "
                    f"the batch, got {tuple(tensor.shape)}"
                )
            found[name] = whole.detach().cpu().to(like.dtype).numpy()
        yield found


def _compare(engine: Engine, reference: Any, batch: dict[str, np.ndarray]) -> None:
    """Logs how far the engine's answers to a calibration batch are from the module's."""
    for name, array in batch.items():
        allowed = engine.manifest.profile.ranges[name]
        if not all(low <= size <= high for low, size, high in zip(allowed.min, array.shape, allowed.max, strict=True)):
            return  # calibrated in one shape, to run in others
    wanted = reference(batch)
    with engine.create_execution_context() as context:
        got = context.execute(batch)
    worst = max(measure(np.asarray(got[name]), wanted[name]).relative_error for name in wanted)
    level = logging.WARNING if worst > BUDGETS["int8"] else logging.INFO
    log.log(level, "int8_mode: relative error %.2g against the module in fp32, on the first calibration item", worst)
