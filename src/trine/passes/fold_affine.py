"""Folds multiplications and additions by a constant into the weights of the node before them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.passes.rewriting import NodePass, constant, is_op, made_by, rank_of
from trine.passes.scaled_weights import Affine, foldable_weights, output_channels, put_affine

__all__ = ["FoldAffine", "channel_constant"]


class FoldAffine(NodePass):
    """Folds a constant Mul, Div, Add or Sub behind Conv, ConvTranspose or Gemm into weights and bias.

    Before: ``a = Conv(x, w, b); c = Mul(a, k); y = Add(c, d)``, with k and d: [1, C, 1, 1] or one number.
    After: ``y = Conv(x, w * k, b * k + d)``.

    Computed in float64, then rounded once. Stays: a factor that differs along anything but the channels, or that
    broadcasts the result to another shape; a result that others use too or that is an output; weights that are
    shared or no constants; a constant divided by the result.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the arithmetic back at the convolution."""
        if not is_op(node, "Mul", "Div", "Add", "Sub"):
            return False
        for position in (0, 1):
            producer = made_by(node.inputs[position], "Conv", "ConvTranspose", "Gemm")
            if producer is None or not foldable_weights(producer):
                continue
            affine = self._affine(node, producer, 1 - position)
            if affine is not None:
                return put_affine(producer, node, affine)
        return False

    def _affine(self, node: ir.Node, producer: ir.Node, position: int) -> Affine | None:
        rank = rank_of(producer.inputs[1])  # of convolution weights: the same as of the result
        if rank is None:
            return None
        by_channel = channel_constant(node.inputs[position], rank, 1, output_channels(producer))
        if by_channel is None:
            return None
        one, zero = np.ones(1), np.zeros(1)
        constant_first = position == 0
        if node.op_type == "Mul":
            return Affine(by_channel, zero)
        if node.op_type == "Add":
            return Affine(one, by_channel)
        if node.op_type == "Sub":
            return Affine(-one, by_channel) if constant_first else Affine(one, -by_channel)
        if constant_first or not np.all(by_channel):
            return None
        return Affine(1.0 / by_channel, zero)


def channel_constant(value: ir.Value | None, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """A constant as float64 of shape (channels,) or (1,), if it differs along ``axis`` of a ``rank``-D result only.

    None if it is no constant, differs along other axes, or would broadcast the result to another shape.
    """
    if value is None or value.shape is None or len(value.shape) > rank:
        return None
    array = constant(value, limit=channels)
    if array is None or array.dtype.kind in "biuc" or array.size not in (1, channels):
        return None
    dims = [1] * (rank - array.ndim) + list(array.shape)
    if array.size > 1 and dims[axis] != channels:
        return None
    if any(dim != 1 for position, dim in enumerate(dims) if position != axis):
        return None
    return array.astype(np.float64).reshape(-1)
