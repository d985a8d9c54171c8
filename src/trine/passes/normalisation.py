"""Finds normalisation over the last axes in spelled-out form: shared by RecogniseLayerNorm and RecogniseRmsNorm."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from trine.passes.rewriting import axes_of, int_attribute, is_op, known_dims, rank_of, scalar

__all__ = ["RootMeanSquare", "by_root_mean_square", "reduced_axes", "scale_behind"]

TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class RootMeanSquare:
    """``source / sqrt(mean(source ** 2) + epsilon)`` over the axes from ``axis`` (negative) to the last."""

    source: ir.Value
    axis: int
    epsilon: float
    dims: tuple[int, ...]  # the sizes of these axes
    nodes: tuple[ir.Node, ...]  # all that compute it; the first makes the result


def by_root_mean_square(node: ir.Node) -> RootMeanSquare | None:
    """What ``node`` (Div or Mul) normalises, if it divides a tensor by its root mean square."""
    if not is_op(node, "Div", "Mul") or node.outputs[0].dtype not in TYPES:
        return None
    if node.op_type == "Div":
        return _match(node, node.inputs[0], node.inputs[1], inverse=False)
    return _match(node, node.inputs[0], node.inputs[1], inverse=True) or _match(
        node, node.inputs[1], node.inputs[0], inverse=True
    )


def _match(node: ir.Node, source: ir.Value | None, norm: ir.Value | None, *, inverse: bool) -> RootMeanSquare | None:
    """``norm`` is sqrt(mean + epsilon), or 1 / that if ``inverse``."""
    if source is None:
        return None
    nodes = [node]
    made = _producer(norm, nodes)
    if inverse and is_op(made, "Reciprocal"):
        made = _producer(made.inputs[0] if made else None, nodes)
        exponent = 0.5
    elif inverse and is_op(made, "Div") and made is not None and scalar(made.inputs[0]) == 1.0:
        made = _producer(made.inputs[1], nodes)
        exponent = 0.5
    else:
        exponent = -0.5 if inverse else 0.5
    if is_op(made, "Sqrt"):
        if exponent != 0.5:
            return None
    elif not is_op(made, "Pow") or made is None or scalar(made.inputs[1]) != exponent:
        return None
    assert made is not None
    added = _producer(made.inputs[0], nodes)
    if added is None or not is_op(added, "Add"):
        return None
    for position in (0, 1):
        epsilon = scalar(added.inputs[position])
        mean = _producer(added.inputs[1 - position], [])
        if epsilon is None or epsilon < 0 or mean is None or not is_op(mean, "ReduceMean"):
            continue
        square = _producer(mean.inputs[0], [])
        if square is None or not _is_square(square, source):
            return None
        axis = reduced_axes(mean)
        dims = known_dims(source)
        if axis is None or source.shape is None:
            return None
        dims = tuple(dim for dim in list(source.shape)[axis:] if isinstance(dim, int))
        if len(dims) != -axis or rank_of(added.inputs[position]) not in (0, 1):
            return None
        return RootMeanSquare(source, axis, epsilon, dims, (*nodes, mean, square))
    return None


def reduced_axes(mean: ir.Node) -> int | None:
    """The first of the axes that a ReduceMean reduces, negative; None unless they are the last ones and are kept."""
    rank = rank_of(mean.inputs[0])
    axes = axes_of(mean)
    if rank is None or not axes or int_attribute(mean, "keepdims", 1) != 1:
        return None
    wanted = sorted(axis % rank for axis in axes)
    if wanted != list(range(rank - len(wanted), rank)):
        return None
    return -len(wanted)


def scale_behind(value: ir.Value, op_type: str, dims: tuple[int, ...]) -> tuple[ir.Node, ir.Value] | None:
    """The one user of ``value`` and its other operand, if it is this operator and the operand has just these dims."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    user, position = uses[0]
    if not is_op(user, op_type) or len(user.inputs) != 2 or user.inputs[0] is user.inputs[1]:
        return None
    other = user.inputs[1 - position]
    if other is None or other.dtype != value.dtype or known_dims(other) != dims or user.graph is not _graph_of(value):
        return None
    return user, other


def _graph_of(value: ir.Value) -> ir.Graph | None:
    producer = value.producer()
    return None if producer is None else producer.graph


def _is_square(node: ir.Node, source: ir.Value) -> bool:
    if is_op(node, "Mul"):
        return node.inputs[0] is source and node.inputs[1] is source
    return is_op(node, "Pow") and node.inputs[0] is source and scalar(node.inputs[1]) == 2.0


def _producer(value: ir.Value | None, nodes: list[ir.Node]) -> ir.Node | None:
    made = None if value is None else value.producer()
    if made is not None:
        nodes.append(made)
    return made
