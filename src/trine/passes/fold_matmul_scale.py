"""Folds a constant factor behind a matrix product into its weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.passes.fold_affine import channel_constant
from trine.passes.rewriting import FLOATS, NodePass, add_initializer, constant, forward, is_op, made_by, rank_of
from trine.passes.scaled_weights import drop_if_unused, is_own_constant

__all__ = ["FoldMatMulScale"]


class FoldMatMulScale(NodePass):
    """Folds a constant Mul or Div behind MatMul, its bias and a Transpose into weights and bias: LayerScale.

    Before: ``a = Add(MatMul(x, w), b); t = Transpose(a, [0, 3, 1, 2]); y = Mul(t, k)``, with k: [C, 1, 1].
    After: ``y = Transpose(Add(MatMul(x, w * k), b * k), [0, 3, 1, 2])``.

    Computed in float64, then rounded once. Bias and Transpose are optional. Stays: a factor that differs along
    anything but the columns of ``w``; a product that others use too or that is an output; weights or a bias that
    are shared or no constants.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the multiplication back at the matrix product."""
        if not is_op(node, "Mul", "Div") or node.outputs[0].dtype not in FLOATS:
            return False
        return any(self._fold(node, position) for position in ((0, 1) if node.op_type == "Mul" else (0,)))

    def _fold(self, node: ir.Node, position: int) -> bool:
        result = node.inputs[position]
        rank = rank_of(result)
        if result is None or rank is None or (axis := rank - 1) < 1:
            return False
        unscaled = result
        if (transpose := made_by(unscaled, "Transpose")) is not None and "perm" in transpose.attributes:
            axis = list(transpose.attributes["perm"].as_ints()).index(rank - 1)
            unscaled = transpose.inputs[0] or unscaled
        bias_position = 0
        if (added := made_by(unscaled, "Add")) is not None:
            bias_position = 1 if made_by(added.inputs[0], "MatMul") is not None else 0
            unscaled = added.inputs[1 - bias_position] or unscaled
        product = made_by(unscaled, "MatMul")
        if product is None or (weights := product.inputs[1]) is None or not is_own_constant(weights):
            return False
        array = constant(weights)
        if array is None or array.ndim != 2 or rank_of(product.inputs[0]) != rank:
            return False
        columns = array.shape[1]
        factor = channel_constant(node.inputs[1 - position], rank, axis, columns)
        if factor is None or (node.op_type == "Div" and not np.all(factor)):
            return False
        factor = 1.0 / factor if node.op_type == "Div" else factor
        scaled = (array.astype(np.float64) * factor).astype(array.dtype)
        bias = added.inputs[bias_position] if added is not None else None
        scaled_bias = None
        if bias is not None:
            by_column = channel_constant(bias, rank, rank - 1, columns)
            if by_column is None or not is_own_constant(bias):
                return False
            scaled_bias = (by_column * factor).astype(array.dtype)
            if not np.all(np.isfinite(scaled_bias)):
                return False
        if not np.all(np.isfinite(scaled)) or not forward(node, result):
            return False
        product.replace_input_with(1, add_initializer(product, f"{weights.name}", scaled))
        drop_if_unused(weights)
        if added is not None and bias is not None and scaled_bias is not None:
            added.replace_input_with(bias_position, add_initializer(added, f"{bias.name}", scaled_bias))
            drop_if_unused(bias)
        return True
