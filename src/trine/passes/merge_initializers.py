"""Keeps one copy of equal constants."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from trine.passes.rewriting import Counted

__all__ = ["MergeInitializers"]

_ELEMENTS = 16  # scalars, axes and shapes; weights that happen to be equal keep their own names


class MergeInitializers(ir.passes.InPlacePass):
    """Replaces tiny constants of equal type, shape and content by one of them.

    Before: initializers ``a = [1]``, ``b = [1]``; ``y = Unsqueeze(x, a); z = Unsqueeze(v, b)``.
    After: initializer ``a = [1]``; ``y = Unsqueeze(x, a); z = Unsqueeze(v, a)``.

    Constants that are a graph's inputs or outputs stay, and so do those of more than 16 elements.
    """

    def call(self, model: ir.Model) -> Counted:
        """Wraps onnx_ir's DeduplicateInitializersPass."""
        before = len(model.graph.initializers)
        modified = common.DeduplicateInitializersPass(size_limit=_ELEMENTS)(model).modified
        return Counted(model, modified, before - len(model.graph.initializers))
