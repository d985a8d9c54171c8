"""Recognises scaled dot-product attention in spelled-out form."""

from __future__ import annotations

import onnx_ir as ir

from trine.passes.attention_shapes import TYPES, dims_of, mask_fits, operands_fit
from trine.passes.rewriting import NodePass, int_attribute, is_op, is_private, only_used_once, rank_of, replace, scalar

__all__ = ["RecogniseAttention"]


class RecogniseAttention(NodePass):
    """Makes one Attention of two matrix products with a Softmax between them.

    Before: ``s = MatMul(Mul(q, 0.125), Transpose(k, [0, 1, 3, 2])); p = Softmax(Add(s, mask)); y = MatMul(p, v)``.
    After: ``y = Attention(q, k, v, mask, scale=0.125)``, with q, k, v: [batch, heads, length, size].

    The scale may stand at the scores, at q, at k, or be split among them; the mask is optional. Stays: in other
    types than float32 and float16; other ranks than 4; batch or heads that are not known to be equal; a mask that
    is not known to broadcast, or that is scaled too; probabilities that others use or that are an output; before
    opset 23.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the second matrix product back."""
        if self.opset < 23 or not is_op(node, "MatMul") or node.outputs[0].dtype not in TYPES:
            return False
        softmax, value = _made(node.inputs[0], "Softmax"), node.inputs[1]
        if softmax is None or value is None or int_attribute(softmax, "axis", -1) not in (-1, 3):
            return False
        nodes = [node, softmax]
        scores, mask = softmax.inputs[0], None
        if (added := _made(scores, "Add")) is not None:
            nodes.append(added)
            positions = [each for each in (0, 1) if _leads_to_product(added.inputs[each])]
            if len(positions) != 1:
                return False
            scores, mask = added.inputs[positions[0]], added.inputs[1 - positions[0]]
        scores, scale = _without_scale(scores, nodes)
        product = _made(scores, "MatMul")
        if product is None:
            return False
        nodes.append(product)
        query, query_scale = _without_scale(product.inputs[0], nodes)
        keys, keys_scale = _without_scale(product.inputs[1], nodes)
        transpose = _made(keys, "Transpose")
        if query is None or transpose is None or (key := transpose.inputs[0]) is None:
            return False
        perm = transpose.attributes.get("perm")
        order = list(perm.as_ints()) if perm is not None else [3, 2, 1, 0]
        if len(order) != 4:
            return False
        order[2], order[3] = order[3], order[2]  # what is left to do on the keys
        scale *= query_scale * keys_scale
        if only_used_once(transpose.outputs[0]):
            nodes.append(transpose)
            if order == [0, 1, 2, 3]:
                key, key_scale = _without_scale(key, nodes)
                scale *= key_scale
        if key is None or scale <= 0:
            return False
        given, query_dims = dims_of(key), dims_of(query)
        key_dims = None if given is None else [given[axis] for axis in order]
        if query_dims is None or key_dims is None or not operands_fit(query_dims, key_dims, dims_of(value)):
            return False
        if not mask_fits(mask, query_dims, key_dims) or (mask is not None and mask.dtype != query.dtype):
            return False
        if transpose.graph is not node.graph or not is_private(nodes, node, (query, key, value, mask)):
            return False
        if order != [0, 1, 2, 3]:
            turned = ir.Node("", "Transpose", [key], [ir.AttrInt64s("perm", order)])
            turned.metadata_props.update(transpose.metadata_props)
            turned.outputs[0].type, turned.outputs[0].shape = key.type, ir.Shape(key_dims)
            assert node.graph is not None
            node.graph.insert_before(node, turned)
            key = turned.outputs[0]
        inputs = [query, key, value] if mask is None else [query, key, value, mask]
        replace(node, "Attention", inputs, {"scale": scale}, absorbed=nodes[1:])
        return True


def _made(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if is_op(node, op_type) else None


def _leads_to_product(value: ir.Value | None) -> bool:
    """Whether ``value`` is a matrix product, perhaps scaled: what tells scores from a mask."""
    unscaled, _ = _without_scale(value, [])
    return _made(unscaled, "MatMul") is not None


def _without_scale(value: ir.Value | None, nodes: list[ir.Node]) -> tuple[ir.Value | None, float]:
    """What ``value`` is times one number: the rest and the number. Adds the node that multiplies to ``nodes``."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "Mul", "Div"):
        return value, 1.0
    for position in (1, 0) if node.op_type == "Mul" else (1,):
        factor, rest = scalar(node.inputs[position]), node.inputs[1 - position]
        if factor is None or factor <= 0 or (rank_of(node.inputs[position]) or 0) > (rank_of(rest) or 0):
            continue
        nodes.append(node)
        return rest, factor if node.op_type == "Mul" else 1.0 / factor
    return value, 1.0
