"""A model with one operator of each kind that the casts know."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["one", "sample"]

_RANDOM = np.random.default_rng(0)


def _weight(*shape: int) -> np.ndarray:
    return _RANDOM.normal(size=shape).astype(np.float32)


# Operands after the input of shape (n, 4, 8, 8): weights, or "x" for the input once more; and attributes.
_CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "AveragePool": ([], {"kernel_shape": [2, 2]}),
    "BatchNormalization": ([_weight(4), _weight(4), _weight(4), abs(_weight(4))], {}),
    "Clip": ([np.float32(0), np.float32(6)], {}),
    "Concat": (["x"], {"axis": 1}),
    "Conv": ([_weight(4, 4, 3, 3), _weight(4)], {}),
    "ConvTranspose": ([_weight(4, 4, 3, 3)], {}),
    "Expand": ([np.array([1, 4, 8, 8])], {}),
    "Gather": ([np.array([0, 1])], {"axis": 1}),
    "Gemm": ([_weight(256, 5), _weight(5)], {}),
    "MatMul": ([_weight(8, 8)], {}),
    "MaxPool": ([], {"kernel_shape": [2, 2]}),
    "PRelu": ([_weight(4, 1, 1)], {}),
    "Reshape": ([np.array([0, -1])], {}),
    "Slice": ([np.array([0]), np.array([2]), np.array([1])], {}),
    "Split": ([np.array([2, 2])], {"axis": 1}),
    "Squeeze": ([np.array([0])], {}),
    "Unsqueeze": ([np.array([0])], {}),
    **{op: (["x"], {}) for op in ("Add", "Max", "Min", "Mul", "Sub")},
}


def sample(op: str) -> bytes:
    """``op`` behind a Mul, which is narrow, so that what follows its operands is too. Input "x", (n, 4, 8, 8)."""
    operands, attributes = _CASES.get(op, ([], {}))
    nodes: list[NodeProto] = [helper.make_node("Mul", ["x", "x"], ["m"], name="before")]
    inputs, weights = ["m"], []
    if op == "Gemm":
        nodes.append(helper.make_node("Flatten", ["m"], ["flat"]))
        inputs = ["flat"]
    if op == "Squeeze":
        weights.append(numpy_helper.from_array(np.array([0]), "axes"))
        nodes.append(helper.make_node("Unsqueeze", ["m", "axes"], ["high"]))
        inputs = ["high"]
    if op == "Where":
        nodes.append(helper.make_node("Greater", ["x", "m"], ["choice"]))
        inputs = ["choice", "m", "m"]
    for index, operand in enumerate(operands):
        if isinstance(operand, str):
            inputs.append("m")
        else:
            weights.append(numpy_helper.from_array(np.asarray(operand), f"w{index}"))
            inputs.append(f"w{index}")
    outputs = ["y", "z"] if op == "Split" else ["y"]
    nodes.append(helper.make_node(op, inputs, outputs, name="it", **attributes))
    return model(nodes, {"x": ["n", 4, 8, 8]}, outputs, weights)


def one(op: str, inputs: dict[str, list[int | str]], dtype: int = TensorProto.FLOAT, **attributes: Any) -> bytes:
    """``op`` alone."""
    return model([helper.make_node(op, list(inputs), ["y"], name=f"the_{op}", **attributes)], inputs, ["y"], (), dtype)


def model(
    nodes: list[NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    weights: Any = (),
    dtype: int = TensorProto.FLOAT,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        list(weights),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return made.SerializeToString()
