"""Writes operators that PyTorch's exporter cannot translate with ones that it can, inside a traced program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trine.importers import (
    decompositions_elementwise,
    decompositions_linalg,
    decompositions_order,
    decompositions_scatter,
)

__all__ = ["TABLE", "decomposed"]

TABLE: dict[Any, Callable[..., Any]] = {
    **decompositions_elementwise.TABLE,
    **decompositions_linalg.TABLE,
    **decompositions_order.TABLE,
    **decompositions_scatter.TABLE,
}
_BY_NAME = {str(operator): operator for operator in TABLE}
# Translated well except in some forms: written otherwise there alone, as going over a program takes time.
_MOSTLY_FINE: dict[Any, Callable[[torch.fx.Node], bool]] = {
    torch.ops.aten.exp.default: lambda node: bool(node.meta["val"].is_complex()),
    torch.ops.aten.scatter.src: lambda node: _shape(node.args[2]) != _shape(node.args[3]),
    torch.ops.aten.scatter_add.default: lambda node: _shape(node.args[2]) != _shape(node.args[3]),
    torch.ops.aten.bucketize.Tensor: lambda node: False,
}


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """``program`` without the operators in the table; itself where it has none, as most programs do.

    A table's function may return NotImplemented, for a dim that it needs and that is open for example: the operator
    stays, and the exporter refuses it by name. Lines of the user's source stay with what is written in its place.
    """
    found = {
        operator
        for module in program.graph_module.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
        if (operator := _operator(node)) is not None and _MOSTLY_FINE.get(operator, _always)(node)
    }
    if not found:
        return program
    written: torch.export.ExportedProgram = program.run_decompositions({target: TABLE[target] for target in found})
    return written


def _operator(node: torch.fx.Node) -> Any:
    """The table's operator that ``node`` is, also as the form that writes into its first argument ("x.lgamma_()")."""
    if node.op != "call_function":
        return None
    name = str(node.target)
    return _BY_NAME.get(name) or _BY_NAME.get(name.replace("_.", ".", 1))


def _always(node: torch.fx.Node) -> bool:
    return True


def _shape(value: Any) -> list[str]:
    return [str(dim) for dim in value.meta["val"].shape]
