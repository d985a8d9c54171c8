"""Imports a ``torch.nn.Module``: trace, translate, convert, and check against eager before anything else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
import torch

from trine import structure
from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import ModelImportError
from trine.importers.conversion import write_layers
from trine.importers.converters import ConverterFunction, active
from trine.importers.dependence import check_dependence
from trine.importers.eager import EagerModel, eval_mode, to_numpy
from trine.importers.eager_check import check_against_eager
from trine.importers.imported_model import Arrays, ImportedModel
from trine.importers.interception import intercepted
from trine.importers.preflight import user_line
from trine.importers.torch_call import FlatModule, bind_call, check_module
from trine.importers.torch_dims import plan_axes, trace
from trine.importers.torch_export import to_graph
from trine.importers.torch_names import name_things

__all__ = ["import_torch"]

log = logging.getLogger("trine")


def import_torch(
    module: torch.nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_axes: Mapping[str, Mapping[int, str]] | str = "auto",
    batch: str = "auto",
    converters: Mapping[str, ConverterFunction] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> ImportedModel:
    """The module called with ``args`` and ``kwargs``, as a graph that gives the same answers.

    Dim 0 of every input that shares the first input's dim 0 becomes the symbol "batch". ``batch`` says how
    much that matters: "auto" (fixed, with a logged warning, where the model cannot), "dynamic" (an error
    where it cannot) or "static". ``dynamic_axes`` opens further dims by input name, {"x": {2: "height"}}.
    ``converters`` add to the registered ones. ``on_stage`` hears the name of each stage as it starts.

    The module comes back as it was: training modes, weights, buffers and gradient flags. The graph's weights
    are the module's own memory. Raises ModelImportError (UnsupportedError for operators) with the line of the
    user's model; ConfigError for unknown options.
    """
    stage = on_stage or (lambda name: None)
    device = check_module(module)
    module = getattr(module, "_orig_mod", module)  # what torch.compile wrapped: the same weights, as they were written
    args = args if isinstance(args, tuple) else (args,)
    call, leaves = bind_call(module, args, kwargs or {})
    leaves = {name: tensor.to(device) for name, tensor in leaves.items()}
    name = type(module).__name__
    axes = plan_axes(leaves, dynamic_axes, batch)
    chosen = active(converters)

    stage("run eager")
    reference = EagerModel(module, call, device)
    examples = {leaf: to_numpy(leaf, tensor) for leaf, tensor in leaves.items()}
    spec = _run_example(reference, examples, leaves, name)

    stage("trace")
    with eval_mode(module), intercepted(chosen) as calls:
        exported, axes = trace(FlatModule(module, call), leaves, axes, calls, name)

    stage("translate")
    model, mutated = to_graph(exported, name)
    if mutated:
        written = ", ".join(repr(each.removeprefix("module.")) for each in mutated)
        log.warning("%s writes to its buffer(s) %s in every call; the engine keeps the values of now", name, written)
    name_things(model, list(leaves), structure.leaf_names(spec), exported, axes)
    used = write_layers(model, calls, chosen)

    stage("check against eager")
    hint = f"; converters were used: {', '.join(used)}" if used else ""
    infos = [TensorInfo(leaf, DataType.from_numpy(examples[leaf].dtype), _dims(model, leaf)) for leaf in leaves]
    check_dependence(model, reference, examples, hint)
    check_against_eager(model, reference, infos, examples, name, hint)
    kind = type(module)
    return ImportedModel(
        model=model,
        reference=reference,
        name=name,
        source=f"torch.nn.Module {kind.__module__}.{kind.__qualname__}",
        example_inputs=examples,
        input_structure=call,
        output_structure=spec,
        versions=_versions(),
    )


def _run_example(
    reference: EagerModel, examples: Arrays, leaves: Mapping[str, torch.Tensor], name: str
) -> dict[str, Any]:
    """The structure of the outputs, which running the example shows. Raises ModelImportError if that fails."""
    try:
        spec, outputs = reference.run(examples)
    except ModelImportError:
        raise
    except Exception as err:  # forward is the user's code: anything can come out of it
        line = user_line(err)
        listed = ", ".join(f"{key}: {tuple(t.shape)} {t.dtype}" for key, t in leaves.items())
        weights = {str(p.dtype) for p in reference.module.parameters()}
        raise ModelImportError(
            f"{name} itself fails on the example inputs ({listed}){f' at {line}' if line else ''}: "
            f"{type(err).__name__}: {' '.join(str(err).split())[:400]}. "
            "Give inputs of the shape and dtype that forward takes"
            + (f"; its weights are {', '.join(sorted(weights))}" if weights else "")
        ) from err
    if not outputs:
        raise ModelImportError(f"{name} returned no tensor; an engine needs at least one output")
    reference.output_structure = spec
    return spec


def _dims(model: ir.Model, name: str) -> tuple[int | str, ...]:
    shape = next(value.shape for value in model.graph.inputs if value.name == name)
    assert shape is not None
    return tuple(dim if isinstance(dim, int) else str(dim) for dim in shape)


def _versions() -> dict[str, str]:
    import onnx
    import onnxscript

    return {
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnx_ir": ir.__version__,
        "onnxscript": onnxscript.__version__,
    }
