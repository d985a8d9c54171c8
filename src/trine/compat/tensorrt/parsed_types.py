"""Inputs and outputs of the types that TensorRT before 10 gave them: it had no 64-bit integers."""

from __future__ import annotations

import onnx

from trine.importers.onnx_proto import all_nodes

__all__ = ["with_int32_ends"]


def with_int32_ends(model: onnx.ModelProto) -> bool:
    """Make inputs and outputs of int64 ones of int32, with a Cast to or from the model's own. Whether there were any.

    Programs for TensorRT 5 to 9 give int32 data, as its parser made of int64 models.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    long = onnx.TensorProto.INT64
    inputs = [each for each in graph.input if each.type.tensor_type.elem_type == long and each.name not in weights]
    outputs = [each for each in graph.output if each.type.tensor_type.elem_type == long]
    wide_in = {value.name: f"{value.name}_int64" for value in inputs}
    wide_out = {value.name: wide_in.get(value.name, f"{value.name}_int64") for value in outputs}
    renamed = {**wide_in, **wide_out}
    for node in all_nodes(model):
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for node in graph.node:
        node.output[:] = [wide_out.get(name, name) for name in node.output]
    for value in (*inputs, *outputs):
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)
    casts = [_cast(name, inner, long) for name, inner in wide_in.items()]
    for number, node in enumerate(casts):
        graph.node.insert(number, node)
    graph.node.extend(
        _cast(inner, name, onnx.TensorProto.INT32) for name, inner in wide_out.items() if name not in wide_in
    )
    return bool(renamed)


def _cast(source: str, target: str, number: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=number)
