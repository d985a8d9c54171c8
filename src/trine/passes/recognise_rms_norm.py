"""Recognises root-mean-square normalisation in spelled-out form."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.passes.normalisation import by_root_mean_square, scale_behind
from trine.passes.rewriting import NodePass, add_initializer, is_private, replace

__all__ = ["RecogniseRmsNorm"]


class RecogniseRmsNorm(NodePass):
    """Makes one RMSNormalization of the arithmetic that computes it.

    Before: ``s = ReduceMean(Pow(x, 2), [-1]); n = Mul(x, Reciprocal(Sqrt(Add(s, 1e-6)))); y = Mul(n, w)``.
    After: ``y = RMSNormalization(x, w, axis=-1, epsilon=1e-6)``.

    Stays: in other types than float32 and float16; over axes other than the last ones; where these are dynamic;
    where others use a part of it or a part is an output; before opset 23.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks at the division by the root mean square, and forward to the scale."""
        if self.opset < 23 or (found := by_root_mean_square(node)) is None:
            return False
        nodes, root = list(found.nodes), node
        scale: ir.Value | None = None
        if (scaled := scale_behind(node.outputs[0], "Mul", found.dims)) is not None:
            root, scale = scaled
            nodes.append(root)
        if not is_private(nodes, root, (found.source, scale)):
            return False
        if scale is None:
            assert found.source.dtype is not None
            ones = np.ones(found.dims, found.source.dtype.numpy())
            scale = add_initializer(root, f"{root.outputs[0].name}/scale", ones)
        attributes = {"axis": found.axis, "epsilon": found.epsilon}
        absorbed = [each for each in nodes if each is not root]
        replace(root, "RMSNormalization", [found.source, scale], attributes, absorbed=absorbed)
        return True
