"""Writes the operator Attention as matrix products, which CPU backends run faster."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from trine.passes.attention_shapes import dims_of, mask_fits, operands_fit
from trine.passes.rewriting import NodePass, add_initializer, int_attribute, is_op, replace

__all__ = ["SpellOutAttention"]


class SpellOutAttention(NodePass):
    """Makes two matrix products with a Softmax between them of each plain Attention, always in the same form.

    Before: ``y = Attention(q, k, v, mask, scale=0.125)``, with q, k, v: [batch, heads, length, size].
    After: ``s = MatMul(Mul(q, 0.125), Transpose(k, [0, 1, 3, 2])); p = Softmax(Add(s, mask)); y = MatMul(p, v)``.

    OpenVINO fuses this form, keys' Transpose included, into one kernel; before the operator it leaves the Transpose
    on its own (docs/passes.md). A backend with an attention kernel of its own leaves this pass out of its list.
    Stays: causal attention, a soft cap, past keys, more outputs than one, a mask of booleans or of other shapes,
    keys and values with other heads than the queries, and other types than float32.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Replaces one Attention."""
        if not is_op(node, "Attention") or len(node.inputs) > 4 or len(node.outputs) != 1:
            return False
        query, key, value = node.inputs[:3]
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        query_dims, key_dims = dims_of(query), dims_of(key)
        if query is None or query.dtype != ir.DataType.FLOAT or not operands_fit(query_dims, key_dims, dims_of(value)):
            return False
        assert query_dims is not None
        assert key_dims is not None
        if not mask_fits(mask, query_dims, key_dims) or (mask is not None and mask.dtype != query.dtype):
            return False
        if not _is_plain(node):
            return False
        batch, heads, length, size = query_dims
        assert isinstance(size, int)
        scale = node.attributes.get_float("scale", 1.0 / math.sqrt(size))
        if scale != 1.0:
            factor = add_initializer(node, f"{node.outputs[0].name}/scale", np.array(scale, np.float32))
            query = _before(node, "Mul", [query, factor], query_dims)
        turned = _before(
            node, "Transpose", [key], [batch, heads, size, key_dims[2]], [ir.AttrInt64s("perm", [0, 1, 3, 2])]
        )
        scores_dims = [batch, heads, length, key_dims[2]]
        scores = _before(node, "MatMul", [query, turned], scores_dims)
        if mask is not None:
            scores = _before(node, "Add", [scores, mask], scores_dims)
        weights = _before(node, "Softmax", [scores], scores_dims, [ir.AttrInt64("axis", -1)])
        replace(node, "MatMul", [weights, value])
        return True


def _is_plain(node: ir.Node) -> bool:
    """Whether no attribute asks for more than a scale. Attributes of opsets to come ask for more."""
    return (
        not set(node.attributes) - {"scale", "is_causal", "softcap", "qk_matmul_output_mode"}
        and int_attribute(node, "is_causal", 0) == 0
        and node.attributes.get_float("softcap", 0.0) == 0
    )


def _before(
    node: ir.Node,
    op_type: str,
    inputs: list[ir.Value | None],
    dims: list[int | ir.SymbolicDim],
    attributes: list[ir.Attr] | None = None,
) -> ir.Value:
    """The result of a new node that stands before ``node``, of its type."""
    made = ir.Node("", op_type, inputs, attributes or [], metadata_props=dict(node.metadata_props))
    result = made.outputs[0]
    result.type, result.shape = node.outputs[0].type, ir.Shape(dims)
    assert node.graph is not None
    node.graph.insert_before(node, made)
    return result
