"""The graph as a strongly typed network wants it: fp16 or bf16 spelled out with casts, and with weights of that type.

TensorRT 11 and TensorRT for RTX choose no precisions any more: each layer computes in the types of its tensors. So
the operators that gain from it get their operands in the narrow type; others keep fp32. Where a tensor is wanted
in both types there is one Cast. Inputs and outputs keep their types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from trine.dtypes import DataType

if TYPE_CHECKING:
    import onnx

__all__ = ["MOVING_OPERATORS", "NARROW_OPERATORS", "cast_model"]

# What computes in the narrow type. Products are summed in fp32 by TensorRT; the rest neither adds up many elements
# nor leaves the range of its operands by much. Softmax, exponentials, normalisations, reductions and everything
# unknown stay in fp32.
# fmt: off
NARROW_OPERATORS = frozenset({
    "Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Conv", "ConvTranspose", "Gelu", "Gemm", "GlobalMaxPool",
    "HardSigmoid", "HardSwish", "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mish", "Mul", "Neg", "PRelu", "Relu",
    "Sigmoid", "Sub", "Tanh",
})
# What only moves elements, and follows its operands: narrow where they are already, or are weights. Casts for its own
# sake cost time, and before an LSTM or GRU, which stay in fp32, TensorRT for RTX 1.7 does not build them.
MOVING_OPERATORS = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze", "Where",
})
# fmt: on
_NOT_IN_BF16 = frozenset({"HardSwish", "Mish"})  # TensorRT's parser refuses them in it
_TYPES = {"fp16": DataType.FLOAT16, "bf16": DataType.BFLOAT16}
_FP32 = 1  # onnx.TensorProto.FLOAT


def cast_model(model: bytes, precision: str) -> bytes:
    """``model``, a whole ONNX model that computes in fp32, with NARROW_OPERATORS in ``precision``: "fp16" or "bf16".

    Other precisions return it as it is. Graphs inside of operators (If, Loop, Scan) keep fp32, and so does an operator
    with a weight beyond the type's range. An activation beyond it becomes infinite, as a cast says. Raises nothing of
    its own; onnx raises for bytes that are no model.
    """
    if precision not in _TYPES:
        return model
    import onnx

    parsed = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    _Casting(parsed.graph, _TYPES[precision]).run()
    return bytes(parsed.SerializeToString())


class _Casting:
    """One graph, changed in place. A tensor ``x`` in the narrow type is called ``x__float16``."""

    def __init__(self, graph: onnx.GraphProto, dtype: DataType) -> None:
        self.graph = graph
        self.dtype = dtype
        self.weights = {weight.name: weight for weight in graph.initializer if weight.data_type == _FP32}
        infos = (*graph.input, *graph.output, *graph.value_info)
        self.fp32 = {info.name for info in infos if info.type.tensor_type.elem_type == _FP32} | self.weights.keys()
        self.wide = {value.name for value in graph.input} | self.weights.keys()  # those that exist in fp32 so far
        self.narrow: set[str] = set()  # those that exist in the narrow type so far
        self.too_large: dict[str, bool] = {}  # what _is_too_large has found
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        for node in list(self.graph.node):
            if self._is_narrow(node):
                for index, name in enumerate(node.input):
                    if name in self.fp32:
                        node.input[index] = self._narrow(name)
                for index, name in enumerate(node.output):
                    if name in self.fp32:
                        node.output[index] = self._name(name)
                        self.narrow.add(name)
            else:
                for name in (*node.input, *_captured(node)):
                    self._widen(name)
                self.wide.update(node.output)
            self.nodes.append(node)
        for value in self.graph.output:
            self._widen(value.name)
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in (*node.input, *_captured(node))}
        used.update(value.name for value in self.graph.output)
        kept = [weight for weight in self.graph.initializer if weight.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _is_narrow(self, node: onnx.NodeProto) -> bool:
        data = [name for name in (*node.input, *node.output) if name in self.fp32]
        if node.domain not in ("", "ai.onnx") or not data or any(self._is_too_large(name) for name in node.input):
            return False
        if node.op_type in MOVING_OPERATORS:
            return all(name in self.narrow or name in self.weights for name in node.input if name in self.fp32)
        return node.op_type in NARROW_OPERATORS and not (
            self.dtype is DataType.BFLOAT16 and node.op_type in _NOT_IN_BF16
        )

    def _is_too_large(self, name: str) -> bool:
        """Whether it is a weight with values that would become infinite, such as the lowest float32 of a mask."""
        if name not in self.weights:
            return False
        if name not in self.too_large:
            import onnx

            weight = onnx.numpy_helper.to_array(self.weights[name])
            with np.errstate(over="ignore"):
                self.too_large[name] = bool(np.isinf(weight.astype(self.dtype.numpy)).sum() > np.isinf(weight).sum())
        return self.too_large[name]

    def _name(self, name: str) -> str:
        return f"{name}__{self.dtype.value}"

    def _narrow(self, name: str) -> str:
        """The name of ``name`` in the narrow type, which exists from here on."""
        import onnx

        if name not in self.narrow:
            self.narrow.add(name)
            if name in self.weights and not any(value.name == name for value in self.graph.input):
                weight = onnx.numpy_helper.to_array(self.weights[name])
                data = weight.astype(self.dtype.numpy)
                self.graph.initializer.append(
                    onnx.TensorProto(
                        name=self._name(name), data_type=self.dtype.onnx, dims=weight.shape, raw_data=data.tobytes()
                    )
                )
            else:
                self._cast(name, self._name(name), self.dtype.onnx)
        return self._name(name)

    def _widen(self, name: str) -> None:
        if name in self.narrow and name not in self.wide:
            self._cast(self._name(name), name, _FP32)
            self.wide.add(name)

    def _cast(self, source: str, result: str, to: int) -> None:
        import onnx

        self.nodes.append(onnx.helper.make_node("Cast", [source], [result], name=f"cast_to_{result}", to=to))


def _captured(node: onnx.NodeProto) -> Iterator[str]:
    """Every name that the graphs inside of ``node`` use; their own among them, which does no harm."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from _captured(inner)
            yield from (value.name for value in graph.output)
