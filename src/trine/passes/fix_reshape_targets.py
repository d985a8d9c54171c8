"""Replaces computed reshape targets by constants, where the result's shape is known."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.passes.rewriting import NodePass, add_initializer, constant, is_op, replace

__all__ = ["FixReshapeTargets", "reshape_target"]


class FixReshapeTargets(NodePass):
    """Gives a Reshape a constant target, so that the nodes that computed it can go.

    Before: ``s = Concat(Shape(x, end=1), [12, 64]); y = Reshape(x, s)``, with x: [batch, 768], y: [batch, 12, 64].
    After: ``y = Reshape(x, [0, 12, 64])``.

    A dynamic dimension that stays where it was becomes 0 ("as in the input"), one other may become -1. Stays: a
    result with two dynamic dimensions that moved, or with a dimension of size 0; an unknown result shape.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Replaces the target of one Reshape."""
        if not is_op(node, "Reshape") or constant(node.inputs[1], limit=64) is not None:
            return False
        source, output = node.inputs[0], node.outputs[0]
        target = reshape_target(source, output)
        if source is None or target is None:
            return False
        shape = add_initializer(node, f"{output.name}/shape", np.array(target, dtype=np.int64))
        replace(node, "Reshape", [source, shape])
        return True


def reshape_target(source: ir.Value | None, output: ir.Value) -> list[int] | None:
    """What to give Reshape (with ``allowzero=0``) to get from ``source`` to the shape of ``output``.

    None where that takes more than 0 and a single -1 for the dynamic dimensions.
    """
    if source is None or output.shape is None or any(dim == 0 for dim in output.shape):
        return None
    given = list(source.shape) if source.shape is not None else []
    target: list[int] = []
    for axis, dim in enumerate(output.shape):
        if isinstance(dim, int):
            target.append(dim)
        elif axis < len(given) and dim.value is not None and given[axis] == dim:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None
