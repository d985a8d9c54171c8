"""Writes operators that PyTorch's exporter cannot translate with ones that it can, inside a traced program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trine.importers import decompositions_order

__all__ = ["decomposed"]

_TABLE: dict[Any, Callable[..., Any]] = {**decompositions_order.TABLE}


def decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """``program`` without the operators in the table; itself where it has none, as most programs do.

    A table's function may return NotImplemented, for a dim that it needs and that is open for example: the operator
    stays, and the exporter refuses it by name. Lines of the user's source stay with what is written in its place.
    """
    found = {
        node.target
        for module in program.graph_module.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
        if node.op == "call_function" and node.target in _TABLE
    }
    if not found:
        return program
    written: torch.export.ExportedProgram = program.run_decompositions({target: _TABLE[target] for target in found})
    return written
