"""The portable graph as onnx_ir nodes, with its weights as arrays and its rows fixed to one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import UnsupportedError
from trine.passes.recognise_attention import RecogniseAttention

__all__ = ["Array", "StaticGraph", "evaluate", "load_static"]

Array = np.ndarray
_OPSET_WITH_ATTENTION = 23
_IR_VERSION = 10  # where a graph says none


@dataclass(frozen=True)
class StaticGraph:
    """Nodes in topological order; ``constants`` holds every initializer; ``inputs`` the shape of each input; ``opsets``
    the version of each domain that the portable graph asks for, ``ir_version`` that of its format."""

    graph: ir.Graph
    opset: int
    constants: dict[ir.Value, Array]
    inputs: tuple[tuple[int, ...], ...]
    opsets: Mapping[str, int]
    ir_version: int


def load_static(
    portable: PortableGraph, rows: int, inputs: Sequence[TensorInfo], *, recognise: bool = True
) -> StaticGraph:
    """Parse the graph; no weight is copied.

    Axis 0 of the inputs may be dynamic, and becomes ``rows``. ``recognise``: attention that is spelled out becomes one
    node. Raises UnsupportedError that names every other dynamic axis.
    """
    problems = [
        f"input {info.name!r}: axis {axis} is {dim!r}"
        for info in inputs
        for axis, dim in enumerate(info.shape)
        if axis > 0 and not isinstance(dim, int)
    ]
    if problems:
        raise UnsupportedError(
            f"the CUDA backend takes a dynamic axis 0 only; got {'; '.join(problems)}. "
            "Fix those axes with shapes= when building",
            problems,
        )
    model = ir.from_proto(onnx.load_from_string(portable.with_weights_as_inputs()))
    graph = model.graph
    for weight, value in zip(portable.weights, graph.inputs[len(graph.inputs) - len(portable.weights) :], strict=True):
        value.const_value = ir.Tensor(weight.array, dtype=ir.DataType(weight.dtype.onnx), name=weight.name)
    weights = list(graph.inputs[len(inputs) :])
    del graph.inputs[len(inputs) :]
    for value in weights:
        graph.register_initializer(value)
    opset = model.opset_imports.get("", 1)
    opsets = dict(model.opset_imports)
    if recognise:
        # The pass asks for an opset that has the operator; here nobody but the lowering reads what it writes.
        model.opset_imports[""] = max(opset, _OPSET_WITH_ATTENTION)
        RecogniseAttention()(model)
    constants = {
        value: value.const_value.numpy() for value in graph.initializers.values() if value.const_value is not None
    }
    shapes = tuple(tuple(dim if isinstance(dim, int) else rows for dim in info.shape) for info in inputs)
    return StaticGraph(graph, opset, constants, shapes, opsets, model.ir_version or _IR_VERSION)


def evaluate(node: ir.Node, opset: int, inputs: Sequence[Array | None]) -> list[Array]:
    """What a node makes of constants, by ONNX's own definition."""
    proto = ir.serde.serialize_node(node)
    names = [name for name in proto.input if name]
    made = onnx.helper.make_graph(
        [proto],
        "constants",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in dict.fromkeys(names)],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in proto.output if name],
    )
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", opset)])
    feeds = {name: array for name, array in zip(proto.input, inputs, strict=True) if array is not None}
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(result) for result in results]
