"""Gives a translated graph the names that the user knows: of inputs, outputs, weights, dims and modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from trine.errors import ModelImportError
from trine.importers.torch_dims import DynamicAxes
from trine.importers.torch_export import Exported

__all__ = ["name_things"]


def name_things(
    model: ir.Model, inputs: Sequence[str], outputs: Sequence[str], exported: Exported, axes: DynamicAxes
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
    _rename_symbols(model, symbols)
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


def _rename_symbols(model: ir.Model, names: Mapping[str, str]) -> None:
    """Renames symbolic dims everywhere in the graph: {"s77": "batch"}; "2*s77" becomes "2*batch"."""
    pattern = re.compile("|".join(rf"\b{re.escape(old)}\b" for old in names)) if names else None

    def renamed(dim: Any) -> Any:
        if not isinstance(dim, ir.SymbolicDim) or dim.value is None:
            return dim
        text = str(dim.value)
        if text.lstrip("-").isdigit():
            return int(text)  # the exporter's spelling of a dim that turned out to be fixed
        return pattern.sub(lambda match: names[match.group()], text) if pattern else dim

    for value in _values(model):
        if value.shape is not None and any(isinstance(dim, ir.SymbolicDim) for dim in value.shape):
            value.shape = ir.Shape([renamed(dim) for dim in value.shape])


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs
