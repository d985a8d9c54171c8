"""Removes what no output depends on."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from trine.passes.rewriting import Counted, all_nodes

__all__ = ["RemoveDeadNodes"]


class RemoveDeadNodes(ir.passes.InPlacePass):
    """Removes nodes and constants that no output depends on, and optional outputs that nobody uses.

    Before: ``a = Exp(x); y, mask = Dropout(x)``, with the output ``y``.
    After: ``y = Dropout(x)``.

    Inputs stay, used or not: they are part of the model's signature.
    """

    def call(self, model: ir.Model) -> Counted:
        """Wraps onnx_ir's RemoveUnusedNodesPass and RemoveUnusedOpsetsPass."""
        before = len(list(all_nodes(model))) + len(model.graph.initializers)
        modified = common.RemoveUnusedNodesPass()(model).modified
        opsets = common.RemoveUnusedOpsetsPass()(model).modified
        after = len(list(all_nodes(model))) + len(model.graph.initializers)
        return Counted(model, modified or opsets, max(int(modified), before - after))
