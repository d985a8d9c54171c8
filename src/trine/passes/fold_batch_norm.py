"""Folds BatchNormalization into the weights of the convolution or matrix product before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.passes.rewriting import FLOATS, NodePass, constant, int_attribute, is_op, made_by, rank_of
from trine.passes.scaled_weights import Affine, foldable_weights, put_affine

__all__ = ["FoldBatchNorm"]


class FoldBatchNorm(NodePass):
    """Multiplies weights and bias by what BatchNormalization would multiply the result by.

    Before: ``a = Conv(x, w, b); y = BatchNormalization(a, scale, bias, mean, var)``.
    After: ``y = Conv(x, w * k, (b - mean) * k + bias)`` with ``k = scale / sqrt(var + epsilon)``.

    Works behind Conv, ConvTranspose, Gemm and a MatMul of two matrices. Computed in float64, then rounded once.
    Stays: BatchNormalization in training mode or with parameters that are no constants; behind a result that others
    use too or that is an output; with weights that are shared or no constants.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the BatchNormalization back at what feeds it."""
        if not is_op(node, "BatchNormalization") or not self._is_inference(node):
            return False
        producer = made_by(node.inputs[0], "Conv", "ConvTranspose", "Gemm", "MatMul")
        if producer is None or not foldable_weights(producer):
            return False
        if producer.op_type == "MatMul" and rank_of(producer.inputs[0]) != 2:
            return False
        parameters = [constant(value) for value in node.inputs[1:5]]
        if any(parameter is None or parameter.ndim != 1 for parameter in parameters):
            return False
        scale, bias, mean, variance = (np.asarray(parameter, dtype=np.float64) for parameter in parameters)
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        if not np.all(np.isfinite(factor)):
            return False
        return put_affine(producer, node, Affine(factor, bias - mean * factor))

    def _is_inference(self, node: ir.Node) -> bool:
        if any(out.uses() or out.is_graph_output() for out in node.outputs[1:]) or node.outputs[0].dtype not in FLOATS:
            return False
        if self.opset < 7:
            return False
        if self.opset < 9 and int_attribute(node, "spatial", 1) != 1:
            return False
        if self.opset < 14:
            return len(node.outputs) == 1  # more outputs meant training
        return int_attribute(node, "training_mode", 0) == 0
