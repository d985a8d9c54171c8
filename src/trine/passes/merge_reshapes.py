"""Merges nodes that only give a tensor another shape."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.passes.fix_reshape_targets import reshape_target
from trine.passes.rewriting import NodePass, add_initializer, forward, is_op, replace, same_dims

__all__ = ["MergeReshapes"]

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class MergeReshapes(NodePass):
    """Makes one Reshape of two in a row, and none of two that undo each other.

    Before: ``a = Flatten(x); b = Reshape(a, [-1, 64, 7, 7]); y = Unsqueeze(b, [1])``, with y: [batch, 1, 64, 7, 7].
    After: ``y = Reshape(x, [0, 1, 64, 7, 7])``.

    The first stays if others use it. Both stay if the result's shape cannot be written as a constant target.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the second node back at the first."""
        if not is_op(node, *_RESHAPES) or (middle := node.inputs[0]) is None:
            return False
        first = middle.producer()
        if first is None or not is_op(first, *_RESHAPES) or (source := first.inputs[0]) is None:
            return False
        output = node.outputs[0]
        if same_dims(source, output):
            return forward(node, source)
        target = reshape_target(source, output)
        if target is None:
            return False
        shape = add_initializer(node, f"{output.name}/shape", np.array(target, dtype=np.int64))
        replace(node, "Reshape", [source, shape])
        return True
