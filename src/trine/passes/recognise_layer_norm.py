"""Recognises layer normalisation in spelled-out form."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.passes.normalisation import by_root_mean_square, reduced_axes, scale_behind
from trine.passes.rewriting import NodePass, add_initializer, is_op, is_private, replace

__all__ = ["RecogniseLayerNorm"]


class RecogniseLayerNorm(NodePass):
    """Makes one LayerNormalization of the arithmetic that computes it.

    Before: ``m = ReduceMean(x, [-1]); d = Sub(x, m); v = ReduceMean(Mul(d, d), [-1]);
    n = Div(d, Sqrt(Add(v, 1e-5))); y = Add(Mul(n, w), b)``, with w, b: [768].
    After: ``y = LayerNormalization(x, w, b, axis=-1, epsilon=1e-5)``.

    Also with Pow for the square, Reciprocal or Pow(-0.5) for the division, several last axes, and without ``w`` or
    ``b``. Stays: in other types than float32 and float16; over other axes; where the reduced axes are dynamic;
    where others use a part of it or a part is an output; before opset 17.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks at the division by the standard deviation, back to the mean and forward to scale and bias."""
        if self.opset < 17 or (found := by_root_mean_square(node)) is None:
            return False
        deviation = found.source.producer()
        if deviation is None or not is_op(deviation, "Sub") or (source := deviation.inputs[0]) is None:
            return False
        mean = deviation.inputs[1].producer() if deviation.inputs[1] is not None else None
        if mean is None or not is_op(mean, "ReduceMean") or mean.inputs[0] is not source:
            return False
        if reduced_axes(mean) != found.axis or source.dtype != found.source.dtype:
            return False
        nodes, root = [*found.nodes, deviation, mean], node
        scale: ir.Value | None = None
        bias: ir.Value | None = None
        if (scaled := scale_behind(node.outputs[0], "Mul", found.dims)) is not None:
            root, scale = scaled
            nodes.append(root)
        if (shifted := scale_behind(root.outputs[0], "Add", found.dims)) is not None:
            root, bias = shifted
            nodes.append(root)
        if not is_private(nodes, root, (source, scale, bias)):
            return False
        if scale is None:
            assert source.dtype is not None
            scale = add_initializer(root, f"{root.outputs[0].name}/scale", np.ones(found.dims, source.dtype.numpy()))
        inputs = [source, scale] if bias is None else [source, scale, bias]
        attributes = {"axis": found.axis, "epsilon": found.epsilon}
        replace(root, "LayerNormalization", inputs, attributes, absorbed=[each for each in nodes if each is not root])
        return True
