"""Imports a ``torch.nn.Module``: trace, translate, convert, and check against eager before anything else."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from trine import structure
from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError, ModelImportError
from trine.importers import converters as converters_module
from trine.importers.converters import ConverterFunction
from trine.importers.dependence import check_dependence
from trine.importers.eager import EagerModel, eval_mode, to_numpy
from trine.importers.eager_check import check_against_eager
from trine.importers.imported_model import Arrays, ImportedModel
from trine.importers.preflight import user_line
from trine.importers.torch_call import FlatModule, bind_call, check_module
from trine.importers.torch_export import Exported, export_program, rename_symbols, to_graph

__all__ = ["import_torch"]

log = logging.getLogger("trine")

BATCH = "batch"
DynamicAxes = Mapping[str, Mapping[int, str]]


def import_torch(
    module: torch.nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_axes: DynamicAxes | str = "auto",
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
    args = args if isinstance(args, tuple) else (args,)
    call, leaves = bind_call(module, args, kwargs or {})
    leaves = {name: tensor.to(device) for name, tensor in leaves.items()}
    name = type(module).__name__
    axes = _plan_axes(leaves, dynamic_axes, batch)
    active = converters_module.active(converters)

    stage("run eager")
    reference = EagerModel(module, call, device)
    examples = {leaf: to_numpy(leaf, tensor) for leaf, tensor in leaves.items()}
    spec = _run_example(reference, examples, leaves, name)

    stage("trace")
    with eval_mode(module), converters_module.intercepted(active) as calls:
        exported, axes = _export(FlatModule(module, call), leaves, axes, calls, name)

    stage("translate")
    model, mutated = to_graph(exported, name)
    if mutated:
        written = ", ".join(repr(each.removeprefix("module.")) for each in mutated)
        log.warning("%s writes to its buffer(s) %s in every call; the engine keeps the values of now", name, written)
    _name_things(model, list(leaves), structure.leaf_names(spec), exported, axes)
    used = converters_module.write_layers(model, calls, active)

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
            f"{' '.join(str(err).split())[:400]}. Give inputs of the shape and dtype that forward takes"
            + (f"; its weights are {', '.join(sorted(weights))}" if weights else "")
        ) from err
    if not outputs:
        raise ModelImportError(f"{name} returned no tensor; an engine needs at least one output")
    reference.output_structure = spec
    return spec


@dataclass(frozen=True)
class _Axes:
    """The dims to leave open, {input: {axis: symbol}}, and whether the user asked for each input's batch."""

    dims: Mapping[str, Mapping[int, str]]
    required: bool  # batch="dynamic"
    asked: frozenset[tuple[str, int]]  # from dynamic_axes: an error where the model fixes them


def _plan_axes(leaves: Mapping[str, torch.Tensor], dynamic_axes: DynamicAxes | str, batch: str) -> _Axes:
    if batch not in ("auto", "dynamic", "static"):
        raise ConfigError(f"batch {batch!r} is unknown; allowed: 'auto', 'dynamic', 'static'")
    if isinstance(dynamic_axes, str):
        if dynamic_axes != "auto":
            raise ConfigError(f"dynamic_axes {dynamic_axes!r} is unknown; allowed: 'auto' or {{input: {{axis: name}}}}")
        dynamic_axes = {}
    dims: dict[str, dict[int, str]] = {name: {} for name in leaves}
    if batch != "static":
        first = next((t.shape[0] for t in leaves.values() if t.ndim), None)
        for name, tensor in leaves.items():
            if first and tensor.ndim and tensor.shape[0] == first:
                dims[name][0] = BATCH
    asked = set()
    for name, symbols in dynamic_axes.items():
        if name not in leaves:
            raise ConfigError(f"dynamic_axes names the input {name!r}; the inputs are {', '.join(leaves)}")
        for axis, symbol in symbols.items():
            rank = leaves[name].ndim
            if not -rank <= axis < rank:
                raise ConfigError(f"dynamic_axes: input {name!r} has {rank} dims, so no axis {axis}")
            if not isinstance(symbol, str) or not symbol.isidentifier():
                raise ConfigError(f"dynamic_axes: {symbol!r} is no name for a dim; use an identifier")
            dims[name][axis % rank] = symbol
            asked.add((name, axis % rank))
    return _Axes(dims, batch == "dynamic", frozenset(asked))


def _export(
    flat: FlatModule,
    leaves: Mapping[str, torch.Tensor],
    axes: _Axes,
    calls: list[converters_module.RecordedCall],
    name: str,
) -> tuple[Exported, _Axes]:
    """Traces with the planned dims open; where the code fixes one, traces again with that one fixed, or fails."""
    while True:
        calls.clear()
        traced = {leaf: _at_least_two(tensor, axes.dims[leaf]) for leaf, tensor in leaves.items()}
        try:
            exported = export_program(flat, traced, axes.dims)
        except ModelImportError:
            if axes.required or axes.asked or not any(axes.dims.values()):
                raise
            # A batch of two, or an open dim, can be what breaks: the model may still work as it was shown.
            why = _why_fixed(flat, leaves, axes.dims, calls)
            axes = _Axes({leaf: {} for leaf in leaves}, False, frozenset())
            log.warning("%s cannot take a dynamic batch%s: the batch is fixed", name, why)
            continue
        lost = {(leaf, axis) for leaf, dims in axes.dims.items() for axis in dims if axis not in exported.symbols[leaf]}
        if not lost:
            return exported, axes
        why = _why_fixed(flat, traced, axes.dims, calls)
        refused = [pair for pair in lost if axes.required or pair in axes.asked]
        if refused:
            leaf, axis = refused[0]
            raise ModelImportError(
                f"{name} cannot take a dynamic {axes.dims[leaf][axis]!r}: its code fixes dim {axis} of input "
                f"{leaf!r} to {traced[leaf].shape[axis]}{why}. Compute with x.shape[{axis}] or -1 instead of a "
                "number, and replace Python loops over that dim; or build with that dim fixed"
            )
        kept = {
            leaf: {axis: symbol for axis, symbol in dims.items() if (leaf, axis) not in lost}
            for leaf, dims in axes.dims.items()
        }
        for leaf, axis in sorted(lost):
            log.warning("%s fixes dim %d of input %r%s: it is not dynamic", name, axis, leaf, why)
        axes = _Axes(kept, axes.required, axes.asked)


def _at_least_two(tensor: torch.Tensor, dims: Mapping[int, str]) -> torch.Tensor:
    """Repeats open dims of size 1: torch.export takes a 0 or 1 in the example as a promise."""
    for axis in dims:
        if tensor.shape[axis] == 1:
            tensor = torch.cat([tensor, tensor], dim=axis)
        elif tensor.shape[axis] == 0:
            shape = list(tensor.shape)
            shape[axis] = 2
            tensor = tensor.new_zeros(shape)
    return tensor


def _why_fixed(
    flat: FlatModule,
    leaves: Mapping[str, torch.Tensor],
    dims: Mapping[str, Mapping[int, str]],
    calls: list[converters_module.RecordedCall],
) -> str:
    """ " at file:line: code" of the first thing that fixed a dim, found by tracing once more; "" if unknown."""
    from trine.importers.specialization import first_specialization

    line = first_specialization(flat, leaves, dims)
    calls.clear()
    return f" at {line}" if line else ""


def _name_things(
    model: ir.Model, inputs: Sequence[str], outputs: Sequence[str], exported: Exported, axes: _Axes
) -> None:
    """Gives inputs, outputs, weights, dims and scopes the names that the user knows them by."""
    if len(model.graph.inputs) != len(inputs) or len(model.graph.outputs) != len(outputs):
        raise ModelImportError(
            f"PyTorch's exporter gave {len(model.graph.inputs)} inputs and {len(model.graph.outputs)} outputs; "
            f"the model has {len(inputs)} and {len(outputs)}. Please report this model"
        )
    for initializer in list(model.graph.initializers.values()):
        _rename(model, initializer, (initializer.name or "").removeprefix("module."))
    _free(model, set(inputs) | set(outputs))
    for value, name in zip(model.graph.inputs, inputs, strict=True):
        value.name = name
    for value, name in zip(model.graph.outputs, outputs, strict=True):
        value.name = name
    symbols: dict[str, str] = {}
    for leaf, found in exported.symbols.items():
        for axis, expression in found.items():
            symbols.setdefault(expression, axes.dims[leaf][axis])
    rename_symbols(model, symbols)
    for node in model.graph.all_nodes():
        if scopes := node.metadata_props.get("pkg.torch.onnx.name_scopes"):
            node.metadata_props["pkg.torch.onnx.name_scopes"] = str(_user_scopes(ast.literal_eval(scopes)))
    model.graph.name = "main"


def _user_scopes(scopes: Sequence[str]) -> list[str]:
    """Module paths without our wrapper: ["", "module", "module.conv1", "conv2d"] -> ["", "conv1", "conv2d"]."""
    return [scope.removeprefix("module.") for scope in scopes if scope != "module"]


def _rename(model: ir.Model, initializer: ir.Value, name: str) -> None:
    old = initializer.name
    if name == old or not name or old is None:
        return
    initializer.name = name
    if old in model.graph.initializers:  # onnx_ir before 0.2 does not follow the name
        model.graph.initializers[name] = model.graph.initializers.pop(old)


def _free(model: ir.Model, wanted: set[str]) -> None:
    """Renames other values that have a wanted name."""
    interface = {*model.graph.inputs, *model.graph.outputs}
    for value in [*interface, *model.graph.initializers.values()]:
        if value.name in wanted:
            _rename(model, value, f"{value.name}__weight") if value.is_initializer() else None
    count = 0
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.name in wanted:
                count += 1
                value.name = f"{value.name}__{count}"
    for count, value in enumerate(model.graph.inputs):
        value.name = f"input__{count}"


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
