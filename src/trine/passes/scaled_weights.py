"""Weights of a convolution or matrix product, multiplied and shifted by channel: shared by the folding passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trine.passes.rewriting import FLOATS, add_initializer, constant, int_attribute, replace

__all__ = ["Affine", "drop_if_unused", "foldable_weights", "is_own_constant", "output_channels", "put_affine"]


@dataclass(frozen=True)
class Affine:
    """``y * scale + shift`` for each output channel; both float64, of shape (channels,) or (1,)."""

    scale: np.ndarray
    shift: np.ndarray


def foldable_weights(node: ir.Node) -> bool:
    """Whether the weights and the bias of ``node`` are constants that nobody else uses, in floating point."""
    weights = node.inputs[1]
    if weights is None or weights.dtype not in FLOATS or not is_own_constant(weights):
        return False
    if node.op_type in ("MatMul", "Gemm") and (weights.shape is None or len(weights.shape) != 2):
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and (bias.const_value is None or not bias.is_initializer() or bias.is_graph_input()):
        return False
    if node.op_type == "Gemm" and bias is not None:
        # A matrix as bias differs by row: it is no bias of a channel.
        dims = tuple(bias.shape or ())
        return all(dim == 1 for dim in dims[:-1])
    return True


def output_channels(node: ir.Node) -> int:
    """How many output channels (for matrix products: columns) ``node``, whose weights are foldable, has."""
    assert node.inputs[1] is not None
    assert node.inputs[1].const_value is not None
    dims = node.inputs[1].const_value.shape.numpy()
    if node.op_type == "ConvTranspose":
        return int(dims[1]) * int_attribute(node, "group", 1)
    if node.op_type == "Conv" or (node.op_type == "Gemm" and int_attribute(node, "transB", 0)):
        return int(dims[0])
    return int(dims[1])


def put_affine(producer: ir.Node, root: ir.Node, affine: Affine) -> bool:
    """Replaces ``root``, which applies ``affine`` to the result of ``producer``, by a scaled ``producer``.

    False, with nothing changed, if the affine has another number of channels, or if a scaled weight would overflow
    its type.
    """
    channels = output_channels(producer)
    if affine.scale.size not in (1, channels) or affine.shift.size not in (1, channels):
        return False
    weights, old_bias = producer.inputs[1], producer.inputs[2] if len(producer.inputs) > 2 else None
    array = constant(weights)
    assert array is not None
    assert weights is not None
    scale = np.broadcast_to(affine.scale.reshape(-1), (channels,))
    scaled = _scale(producer, array, scale)
    given = constant(old_bias)
    bias = np.zeros(1) if given is None else given.astype(np.float64).reshape(-1)
    if producer.op_type == "Gemm":
        bias = bias * producer.attributes.get_float("beta", 1.0)
    shift = np.broadcast_to(bias * scale + affine.shift.reshape(-1), (channels,)).astype(array.dtype)
    if not (np.all(np.isfinite(scaled)) and np.all(np.isfinite(shift))):
        return False
    new_weights = add_initializer(root, f"{weights.name}", scaled)
    stem = old_bias.name if old_bias is not None else f"{weights.name}/bias"
    inputs = [producer.inputs[0], new_weights, add_initializer(root, f"{stem}", shift)]
    kept = {name: attribute for name, attribute in producer.attributes.items() if name != "beta"}
    op_type = "Gemm" if producer.op_type == "MatMul" else producer.op_type
    made = replace(root, op_type, inputs, kept.values(), absorbed=[producer])
    made.name = producer.name  # "conv1" says more to people than "bn1"
    made.metadata_props.update(producer.metadata_props)
    drop_if_unused(weights)
    if old_bias is not None:
        drop_if_unused(old_bias)
    return True


def _scale(producer: ir.Node, array: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weights times one factor an output channel, rounded once to their own type."""
    if producer.op_type == "ConvTranspose":  # (in, out / group, ...): channels of group g belong to input slice g
        groups = int_attribute(producer, "group", 1)
        parts = array.reshape(groups, array.shape[0] // groups, *array.shape[1:])
        factors = scale.reshape(groups, 1, array.shape[1], *[1] * (array.ndim - 2))
        return np.asarray((parts.astype(np.float64) * factors).astype(array.dtype).reshape(array.shape))
    axis = 0 if producer.op_type == "Conv" or int_attribute(producer, "transB", 0) else array.ndim - 1
    factors = scale.reshape([-1 if each == axis else 1 for each in range(array.ndim)])
    return np.asarray((array.astype(np.float64) * factors).astype(array.dtype))


def is_own_constant(value: ir.Value) -> bool:
    """Whether the value is a constant that only one node uses."""
    return (
        value.is_initializer()
        and value.const_value is not None
        and not value.is_graph_input()
        and not value.is_graph_output()
        and len(value.uses()) == 1
    )


def drop_if_unused(value: ir.Value) -> None:
    """Frees the old weights at once: two copies of all of them would not fit for a large model."""
    if value.is_initializer() and not value.uses() and not value.is_graph_output():
        assert value.graph is not None
        assert value.name is not None
        del value.graph.initializers[value.name]
