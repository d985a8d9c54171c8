"""INT8 by quantise and dequantise pairs: which tensors get them, what calibration sees, and the model with them.

Before: ``y = Conv(x, W, b)``. After: ``y = Conv(DQ(Q(x)), DQ(W as int8), b)``, with one scale for the tensor x and one
for each output channel of W, all symmetric. Backends compute such a product in integers where they can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trine.errors import ConfigError, UnsupportedError
from trine.precision.ranges import SeenRange

__all__ = ["calibrate", "is_quantized", "products", "with_pairs"]

_OLDEST_OPSET = 13  # the first whose DequantizeLinear takes a scale for each channel
_LARGEST = 127.0
Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Product:
    """A node whose product can be computed in integers: its activation, its constant weights, their channels' axis."""

    node: int
    activation: str
    weights: str
    axis: int


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the model has quantised values already."""
    return any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node)


def products(model: onnx.ModelProto) -> list[Product]:
    """Convolutions and matrix products of a float32 activation with constant float32 weights."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for index, node in enumerate(model.graph.node):
        if node.domain or len(node.input) < 2 or node.input[0] in weights:
            continue
        tensor = weights.get(node.input[1])
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Conv":
            axis = 0
        elif node.op_type == "MatMul" and len(tensor.dims) == 2:
            axis = 1
        elif node.op_type == "Gemm" and not attributes.get("transA"):
            axis = 0 if attributes.get("transB") else 1
        else:
            continue
        found.append(Product(index, node.input[0], node.input[1], axis))
    return found


def calibrate(model: onnx.ModelProto, batches: Iterable[Batch], method: str) -> dict[str, float]:
    """The magnitude that becomes 127, for each activation of ``products(model)``, from what the batches give.

    Raises ConfigError when there are no batches, UnsupportedError when the model cannot be run.
    """
    import onnxruntime

    names = list(dict.fromkeys(product.activation for product in products(model)))
    inputs = {value.name for value in model.graph.input}
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    inner = [name for name in names if name not in inputs]
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inner if name not in outputs
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except RuntimeError as err:
        raise UnsupportedError(f"calibration cannot run the model: {' '.join(str(err).split())[:400]}") from err
    seen = {name: SeenRange() for name in names}
    count = 0
    for batch in batches:
        count += 1
        results = dict(zip(inner, session.run(inner, dict(batch)), strict=True)) if inner else {}
        for name in names:
            seen[name].observe(batch[name] if name in inputs else results[name])
    if not count:
        raise ConfigError("calibration got no batches; give at least one")
    return {name: found.amax(method) for name, found in seen.items()}


def with_pairs(model: onnx.ModelProto, amax: Mapping[str, float]) -> onnx.ModelProto:
    """A new model with pairs on the activations that ``amax`` names and on the weights that meet them.

    Raises UnsupportedError for a model older than opset 13.
    """
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset < _OLDEST_OPSET:
        raise UnsupportedError(f"INT8 needs a model of opset {_OLDEST_OPSET} or newer, got {opset}; export it anew")
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    before: dict[int, list[onnx.NodeProto]] = {}
    done: dict[str, str] = {}
    for product in products(model):
        largest = amax.get(product.activation, 0.0)
        if largest <= 0:
            continue
        node = graph.node[product.node]
        nodes = before.setdefault(product.node, [])
        if product.activation not in done:
            done[product.activation] = _activation_pair(graph, nodes, product.activation, largest / _LARGEST)
        node.input[0] = done[product.activation]
        label = f"{product.weights}/{product.axis}"
        if label not in done:
            done[label] = _weights_pair(graph, nodes, weights[product.weights], product.axis)
        node.input[1] = done[label]
    nodes = []
    for index, node in enumerate(graph.node):
        nodes += [*before.get(index, ()), node]
    _replace(graph, nodes)
    return made


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used or _inner(graph)]
    if len(kept) != len(graph.initializer):
        names = {tensor.name for tensor in kept}
        for index in reversed(range(len(graph.initializer))):
            if graph.initializer[index].name not in names:
                del graph.initializer[index]


def _inner(graph: onnx.GraphProto) -> bool:
    """Whether a node has a graph of its own, which may use this graph's weights."""
    return any(attribute.type == onnx.AttributeProto.GRAPH for node in graph.node for attribute in node.attribute)


def _activation_pair(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], name: str, scale: float) -> str:
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(scale, np.float32), f"{name}/scale"),
            numpy_helper.from_array(np.array(0, np.int8), f"{name}/zero"),
        ]
    )
    parameters = [f"{name}/scale", f"{name}/zero"]
    nodes.append(helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}/int8"], f"{name}/Quantize"))
    nodes.append(
        helper.make_node("DequantizeLinear", [f"{name}/int8", *parameters], [f"{name}/fp32"], f"{name}/Dequantize")
    )
    return f"{name}/fp32"


def _weights_pair(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], tensor: onnx.TensorProto, axis: int) -> str:
    array = numpy_helper.to_array(tensor).astype(np.float32)
    others = tuple(other for other in range(array.ndim) if other != axis)
    scale = (np.abs(array).max(axis=others) / _LARGEST).astype(np.float32)
    scale[scale == 0] = 1.0  # a channel of zeros has no scale; any will do
    shape = [1] * array.ndim
    shape[axis] = -1
    values = np.clip(np.rint(array / scale.reshape(shape)), -_LARGEST, _LARGEST).astype(np.int8)
    name = f"{tensor.name}/{axis}"
    graph.initializer.extend(
        [
            numpy_helper.from_array(values, f"{name}/int8"),
            numpy_helper.from_array(scale, f"{name}/scale"),
            numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}/zero"),
        ]
    )
    inputs = [f"{name}/int8", f"{name}/scale", f"{name}/zero"]
    nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}/fp32"], f"{name}/Dequantize", axis=axis))
    return f"{name}/fp32"
