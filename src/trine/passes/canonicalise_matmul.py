"""Writes matrix products with a bias in one way."""

from __future__ import annotations

import onnx_ir as ir

from trine.passes.rewriting import FLOATS, NodePass, is_op, made_by, rank_of, replace

__all__ = ["CanonicaliseMatMul"]


class CanonicaliseMatMul(NodePass):
    """Makes one Gemm of a product of two matrices and the bias that is added to it.

    Before: ``a = MatMul(x, w); y = Add(a, b)``, with x: [batch, 512], w: [512, 10], b: [10].
    After: ``y = Gemm(x, w, b)``.

    Stays: products of more than two dimensions (backends add their bias in place too); a bias that is not known
    to broadcast to the product, as it might broadcast the product instead; integers; a product that others use too.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the Add back at the MatMul."""
        if not is_op(node, "Add") or self.opset < 11:
            return False
        for position in (0, 1):
            product, bias = node.inputs[position], node.inputs[1 - position]
            matmul = made_by(product, "MatMul")
            if matmul is None or bias is None or product is None or product.dtype not in FLOATS:
                continue
            if any(rank_of(value) != 2 for value in matmul.inputs) or not _broadcasts_to(bias, product):
                continue
            replace(node, "Gemm", [*matmul.inputs, bias], absorbed=[matmul])
            return True
        return False


def _broadcasts_to(bias: ir.Value, product: ir.Value) -> bool:
    """Whether ``bias`` certainly broadcasts to the shape of ``product`` (two dimensions), not the reverse."""
    if bias.shape is None or product.shape is None or bias.dtype != product.dtype or len(bias.shape) > 2:
        return False
    offset = 2 - len(bias.shape)
    return all(
        dim == 1 or (dim == product.shape[axis + offset] and isinstance(dim, int))
        for axis, dim in enumerate(bias.shape)
    )
