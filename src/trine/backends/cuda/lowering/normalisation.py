"""Normalisation and softmax, over the last axis of rows."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Expr, LayerNorm, Softmax, View
from trine.backends.cuda.lowering.pointwise import pointwise
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.views import memory_order, permuted

__all__ = ["lower_group_norm", "lower_layer_norm", "lower_rms_norm", "lower_softmax", "rows_of"]


def rows_of(lowering: Lowering, x: View, normalised: int) -> tuple[View, View, View]:
    """x as (rows, n) over its last ``normalised`` axes; a new output of that shape; the output with x's axes."""
    rank = len(x.shape)
    lead = sorted(range(rank - normalised), key=memory_order(x).index)
    rows = lowering.merged(x, [lead, range(rank - normalised, rank)])
    if rows.strides[1] != 1 and rows.shape[1] != 1:
        rows = lowering.copied(rows)
    y = lowering.new(x.shape, order=[*lead, *range(rank - normalised, rank)])
    return rows, View(y.buffer, rows.shape, (rows.shape[1], 1)), y


def lower_layer_norm(lowering: Lowering, node: ir.Node) -> list[View]:
    """LayerNormalization, its first output only."""
    return _norm(lowering, node, rms=False)


def lower_rms_norm(lowering: Lowering, node: ir.Node) -> list[View]:
    """RMSNormalization."""
    return _norm(lowering, node, rms=True)


def _norm(lowering: Lowering, node: ir.Node, rms: bool) -> list[View]:
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise CannotLowerError("only the first output is supported")
    x = lowering.view(node, 0)
    axis = node.attributes.get_int("axis", -1) % len(x.shape)
    normalised = x.shape[axis:]
    vectors: list[View | None] = []
    for position in (1, 2):
        array = lowering.constant(node, position)
        if array is None:
            vectors.append(None)
            continue
        vectors.append(lowering.weight(_over(array, normalised), value_name(node, position), "fp32"))
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    rows, out, y = rows_of(lowering, x, len(normalised))
    lowering.emit(
        LayerNorm(name=lowering.name, y=out, x=rows, scale=vectors[0], bias=vectors[1], epsilon=epsilon, rms=rms)
    )
    return [y]


def _over(array: np.ndarray, normalised: tuple[int, ...]) -> np.ndarray:
    """A scale or bias, which may have any shape that x's can be broadcast from, for each element of a row."""
    if array.size == math.prod(normalised):
        return array.reshape(-1)
    own = array.shape[-len(normalised) :]
    if array.size != math.prod(own):
        raise CannotLowerError(f"a scale or bias of shape {array.shape}; wanted {normalised}, the same for every row")
    return np.broadcast_to(array.reshape(own), normalised).reshape(-1)


def lower_group_norm(lowering: Lowering, node: ir.Node) -> list[View]:
    """GroupNormalization and InstanceNormalization: rows of one group's channels and pixels, then scale and shift."""
    x = lowering.view(node, 0)
    scale, bias = lowering.constant(node, 1), lowering.constant(node, 2)
    if scale is None or bias is None:
        raise CannotLowerError("scale or bias is missing")
    channels = x.shape[1]
    groups = channels if node.op_type == "InstanceNormalization" else node.attributes.get_int("num_groups", 1)
    if scale.size == groups != channels:  # before opset 21, one number a group
        scale, bias = (np.repeat(each, channels // groups) for each in (scale, bias))
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    split = lowering.reshaped(x, (x.shape[0] * groups, x.elements // (x.shape[0] * groups)))
    rows, out, _ = rows_of(lowering, split, 1)
    lowering.emit(LayerNorm(name=lowering.name, y=out, x=rows, scale=None, bias=None, epsilon=epsilon))
    normal = lowering.reshaped(out, x.shape)
    ones = (1,) * (len(x.shape) - 2)
    factors = [
        lowering.weight(each.reshape(-1, *ones), value_name(node, position), "fp32")
        for position, each in ((1, scale), (2, bias))
    ]
    expr = Expr("add", (Expr("mul", (Expr("input"), Expr("input", index=1))), Expr("input", index=2)))
    return [pointwise(lowering, expr, [normal, *factors], x.dtype, x.shape)]


def lower_softmax(lowering: Lowering, node: ir.Node) -> list[View]:
    """Softmax and LogSoftmax over any axis; before opset 13, over all axes from that one on."""
    x = lowering.view(node, 0)
    rank = len(x.shape)
    log = node.op_type == "LogSoftmax"
    axis = node.attributes.get_int("axis", -1 if lowering.opset >= 13 else 1) % rank
    count = 1 if lowering.opset >= 13 else rank - axis
    order = [each for each in range(rank) if not axis <= each < axis + count] + list(range(axis, axis + count))
    rows, out, y = rows_of(lowering, permuted(x, order), count)
    lowering.emit(Softmax(name=lowering.name, y=out, x=rows, log=log))
    return [permuted(y, [order.index(each) for each in range(rank)])]
