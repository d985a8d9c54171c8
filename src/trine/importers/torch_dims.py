"""Which dims of a module's inputs stay open: planned, traced, and given up where the code fixes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from trine.errors import ConfigError, ModelImportError
from trine.importers.interception import RecordedCall
from trine.importers.specialization import first_specialization
from trine.importers.torch_call import FlatModule
from trine.importers.torch_export import Exported, ValueDependenceError, export_program

__all__ = ["BATCH", "DynamicAxes", "plan_axes", "trace"]

log = logging.getLogger("trine")

BATCH = "batch"


@dataclass(frozen=True)
class DynamicAxes:
    """The dims to leave open, {input: {axis: symbol}}, and which of them the user insists on."""

    dims: Mapping[str, Mapping[int, str]]
    asked: frozenset[tuple[str, int]] = frozenset()  # (input, axis): an error where the model fixes them


def plan_axes(
    leaves: Mapping[str, torch.Tensor], dynamic_axes: Mapping[str, Mapping[int, str]] | str, batch: str
) -> DynamicAxes:
    """The dims to open. Raises ConfigError for unknown options, ModelImportError for an example without rows."""
    if batch not in ("auto", "dynamic", "static"):
        raise ConfigError(f"batch {batch!r} is unknown; allowed: 'auto', 'dynamic', 'static'")
    if isinstance(dynamic_axes, str):
        if dynamic_axes != "auto":
            raise ConfigError(f"dynamic_axes {dynamic_axes!r} is unknown; allowed: 'auto' or {{input: {{axis: name}}}}")
        dynamic_axes = {}
    dims: dict[str, dict[int, str]] = {name: {} for name in leaves}
    asked: set[tuple[str, int]] = set()
    first = next((name for name, tensor in leaves.items() if tensor.ndim), None)
    if batch != "static" and first is not None:
        size = leaves[first].shape[0]
        if size == 0:
            raise ModelImportError(
                f"input {first!r} has the shape {tuple(leaves[first].shape)}: no row to check answers with; "
                "give an example of at least one"
            )
        for name, tensor in leaves.items():
            if tensor.ndim and tensor.shape[0] == size:
                dims[name][0] = BATCH
        if batch == "dynamic":
            asked.add((first, 0))  # the other inputs may share its size by accident
    for name, symbols in dynamic_axes.items():
        if name not in leaves:
            raise ConfigError(f"a dynamic dim names the input {name!r}; the inputs are {', '.join(leaves)}")
        for axis, symbol in symbols.items():
            rank = leaves[name].ndim
            if not -rank <= axis < rank:
                raise ConfigError(f"a dynamic dim: input {name!r} has {rank} dims, so no axis {axis}")
            if not isinstance(symbol, str) or not symbol.isidentifier():
                raise ConfigError(f"dynamic_axes: {symbol!r} is no name for a dim; use an identifier")
            dims[name][axis % rank] = symbol
            asked.add((name, axis % rank))
    return DynamicAxes(dims, frozenset(asked))


def trace(
    flat: FlatModule,
    leaves: Mapping[str, torch.Tensor],
    axes: DynamicAxes,
    calls: list[RecordedCall],
    name: str,
) -> tuple[Exported, DynamicAxes]:
    """Traces with the planned dims open; where the code fixes one, traces again with that one fixed, or fails."""
    while True:
        calls.clear()
        traced = {leaf: _at_least_two(tensor, axes.dims[leaf]) for leaf, tensor in leaves.items()}
        try:
            exported = export_program(flat, traced, axes.dims)
        except ValueDependenceError as err:  # our own note that other sizes would not help
            raise ModelImportError(str(err)) from err.__cause__
        except ModelImportError as err:
            if axes.asked or not any(axes.dims.values()):
                raise
            # A batch of two, or an open dim, can be what breaks: the model may still work as it was shown.
            calls.clear()
            fixed: dict[str, dict[int, str]] = {leaf: {} for leaf in leaves}
            exported = export_program(flat, leaves, fixed)
            log.warning("%s cannot take a dynamic batch, so it is fixed: %s", name, err)
            return exported, DynamicAxes(fixed)
        lost = {(leaf, axis) for leaf, dims in axes.dims.items() for axis in dims if axis not in exported.symbols[leaf]}
        if not lost:
            return exported, axes
        why = _why_fixed(flat, traced, axes.dims, calls)
        if refused := sorted(lost & axes.asked):
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
        axes = DynamicAxes(kept, axes.asked)


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
    calls: list[RecordedCall],
) -> str:
    """Where a dim was first fixed, " at file:line: code", found by tracing once more; "" if unknown."""
    line = first_specialization(flat, leaves, dims)
    calls.clear()
    return f" at {line}" if line else ""
