"""Finds global average pooling written as a mean over all spatial axes."""

from __future__ import annotations

import onnx_ir as ir

from trine.passes.rewriting import NodePass, axes_of, int_attribute, is_op, rank_of, replace

__all__ = ["RecogniseGlobalPool"]


class RecogniseGlobalPool(NodePass):
    """Makes a GlobalAveragePool of a ReduceMean over everything behind batch and channels.

    Before: ``y = ReduceMean(x, [2, 3], keepdims=1)``, with x: [batch, 64, 7, 7].
    After: ``y = GlobalAveragePool(x)``.

    Backends that keep channels in blocks between convolutions pool them as they are; for a mean they first bring them
    into order, and afterwards into blocks again. Squeeze-and-excite pays that at every block.

    Stays: over some spatial axes only, or batch or channels too; without ``keepdims``; of other types than fp32, which
    ONNX Runtime cannot pool.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks at one ReduceMean."""
        if not is_op(node, "ReduceMean") or int_attribute(node, "keepdims", 1) != 1:
            return False
        source = node.inputs[0]
        rank, axes = rank_of(source), axes_of(node)
        if source is None or source.dtype != ir.DataType.FLOAT or rank is None or rank < 3 or axes is None:
            return False
        if sorted(axis % rank for axis in axes) != list(range(2, rank)):
            return False
        replace(node, "GlobalAveragePool", [source])
        return True
