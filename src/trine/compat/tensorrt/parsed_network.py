"""What the ONNX parser read, seen as a network: its inputs, layers and outputs.

It answers what ``trine.network.Network`` does for reading and for marking outputs. Layers cannot be added to it: an
engine is built from the ONNX model itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx.external_data_helper

from trine.compat.tensorrt.parsed_facts import facts_of, reshape_input
from trine.dtypes import DataType
from trine.errors import ConfigError, UnsupportedError

__all__ = ["ParsedNetwork"]

# The kind of layer that an ONNX operator is in TensorRT, where it is one of its own.
_KINDS = {
    "ACTIVATION": "Relu Sigmoid Tanh LeakyRelu Elu Selu Softsign Softplus Clip HardSigmoid ThresholdedRelu Gelu",
    "CAST": "Cast CastLike",
    "CONCATENATION": "Concat",
    "CONSTANT": "Constant ConstantOfShape",
    "CONVOLUTION": "Conv",
    "CUMULATIVE": "CumSum",
    "DECONVOLUTION": "ConvTranspose",
    "DEQUANTIZE": "DequantizeLinear",
    "EINSUM": "Einsum",
    "ELEMENTWISE": "Add Sub Mul Div Pow Max Min And Or Xor Equal Greater Less Mod",
    "GATHER": "Gather GatherElements GatherND",
    "GRID_SAMPLE": "GridSample",
    "IDENTITY": "Identity Dropout",
    "LRN": "LRN",
    "MATRIX_MULTIPLY": "MatMul Gemm",
    "NMS": "NonMaxSuppression",
    "NON_ZERO": "NonZero",
    "NORMALIZATION": "LayerNormalization InstanceNormalization GroupNormalization",
    "ONE_HOT": "OneHot",
    "PADDING": "Pad",
    "PARAMETRIC_RELU": "PRelu",
    "POOLING": "MaxPool AveragePool GlobalAveragePool GlobalMaxPool",
    "QUANTIZE": "QuantizeLinear",
    "REDUCE": "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd",
    "RESIZE": "Resize Upsample",
    "REVERSE_SEQUENCE": "ReverseSequence",
    "SCALE": "BatchNormalization",
    "SCATTER": "Scatter ScatterElements ScatterND",
    "SELECT": "Where",
    "SHAPE": "Shape",
    "SHUFFLE": "Reshape Transpose Flatten",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SQUEEZE": "Squeeze",
    "TOPK": "TopK",
    "UNARY": "Exp Log Sqrt Reciprocal Abs Neg Sin Cos Tan Sinh Cosh Asin Acos Atan Asinh Acosh Atanh Ceil Floor Erf Not"
    " Sign Round IsInf IsNaN",
    "UNSQUEEZE": "Unsqueeze",
}
_KIND_OF = {operator: kind for kind, operators in _KINDS.items() for operator in operators.split()}


_LARGEST = 2**31 - 2**20  # what a protobuf message holds


class ParsedTensor:
    """A value of the model. ``shape`` has a symbol for each dynamic dimension; None where it is not known."""

    def __init__(self, network: ParsedNetwork, name: str) -> None:
        self._network = network
        self._name = name

    @property
    def name(self) -> str:
        """Its name in the model."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._network._rename(self._name, name)
        self._name = name

    @property
    def shape(self) -> tuple[int | str, ...] | None:
        """Dims, as far as ONNX knows them."""
        return self._network._facts.get(self._name, (None, None))[0]

    @shape.setter
    def shape(self, shape: tuple[int | str, ...]) -> None:
        dims = [dim if isinstance(dim, int) else -1 for dim in shape]
        reshape_input(self._network.model, self._name, dims)
        self._network._facts = facts_of(self._network.model)
        self._network.changed = True

    @property
    def dtype(self) -> DataType | None:
        """The element type, as far as ONNX knows it."""
        return self._network._facts.get(self._name, (None, None))[1]

    @property
    def is_network_input(self) -> bool:
        """Whether it is an input of the model."""
        return any(self is tensor for tensor in self._network._inputs)

    @property
    def is_network_output(self) -> bool:
        """Whether it is an output of the model."""
        return any(self is tensor for tensor in self._network._outputs)


class ParsedLayer:
    """A node of the model."""

    is_parsed = True

    def __init__(self, network: ParsedNetwork, node: onnx.NodeProto, index: int) -> None:
        self._network = network
        self._node = node
        self.type = _KIND_OF.get(node.op_type, "PLUGIN_V2")
        self.name = node.name or f"{node.op_type}_{index}"
        self._inputs = [name for name in node.input if name and name not in network._weights]

    @property
    def num_inputs(self) -> int:
        """How many inputs it has, weights not counted."""
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs it has."""
        return len(self._node.output)

    def get_input(self, index: int) -> ParsedTensor:
        """Input ``index``."""
        return self._network._tensor(self._inputs[index])

    def get_output(self, index: int) -> ParsedTensor:
        """Output ``index``."""
        return self._network._tensor(self._node.output[index])

    def set_input(self, index: int, tensor: Any) -> None:
        """Refused."""
        raise UnsupportedError(f"layer {self.name!r} came from ONNX; change the model before it is parsed")


class ParsedNetwork:
    """A parsed ONNX model. ``path`` is the file that it came from, beside which its external weights are."""

    def __init__(self, model: onnx.ModelProto, path: Path | None = None) -> None:
        self.model = model
        self._path = path
        self.name = model.graph.name or "Unnamed Network 0"
        self.changed = False
        graph = model.graph
        self._weights = {tensor.name for tensor in graph.initializer}
        self._tensors: dict[str, ParsedTensor] = {}
        self._facts = facts_of(model)
        self._inputs = [self._tensor(value.name) for value in graph.input if value.name not in self._weights]
        self._outputs = [self._tensor(value.name) for value in graph.output]
        self._layers = [ParsedLayer(self, node, index) for index, node in enumerate(graph.node)]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("add_"):
            raise UnsupportedError(
                f"{name}: layers cannot be added to a network that the ONNX parser filled; add them to the ONNX model, "
                "or write the whole network with layers (trine.network.to_python writes that program)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _tensor(self, name: str) -> ParsedTensor:
        if name not in self._tensors:
            self._tensors[name] = ParsedTensor(self, name)
        return self._tensors[name]

    @property
    def num_inputs(self) -> int:
        """How many inputs."""
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs."""
        return len(self._outputs)

    @property
    def num_layers(self) -> int:
        """How many nodes."""
        return len(self._layers)

    def get_input(self, index: int) -> ParsedTensor:
        """Input ``index``."""
        return self._inputs[index]

    def get_output(self, index: int) -> ParsedTensor:
        """Output ``index``."""
        return self._outputs[index]

    def get_layer(self, index: int) -> ParsedLayer:
        """Node ``index``."""
        return self._layers[index]

    def mark_output(self, tensor: ParsedTensor) -> None:
        """Make a value an output. Raises ConfigError for one that is, or whose type ONNX cannot tell."""
        if tensor.is_network_output:
            raise ConfigError(f"tensor {tensor.name!r} is an output already")
        shape, dtype = self._facts.get(tensor.name, (None, None))
        if dtype is None:
            raise ConfigError(f"tensor {tensor.name!r}: ONNX cannot tell its type, which an output must have")
        self.model.graph.output.append(
            onnx.helper.make_tensor_value_info(tensor.name, dtype.onnx, None if shape is None else list(shape))
        )
        self._outputs.append(tensor)
        self.changed = True

    def unmark_output(self, tensor: ParsedTensor) -> None:
        """Make a value no output."""
        for index, output in enumerate(self._outputs):
            if output is tensor:
                del self._outputs[index]
                del self.model.graph.output[index]
                self.changed = True
                return
        raise ConfigError(f"tensor {tensor.name!r} is no output")

    def remove_tensor(self, tensor: ParsedTensor) -> None:
        """Refused."""
        raise UnsupportedError(f"tensor {tensor.name!r} came from ONNX; change the model before it is parsed")

    def _rename(self, old: str, new: str) -> None:
        if new in self._facts or new in self._weights:
            raise ConfigError(f"tensor {old!r}: the model has a tensor {new!r} already")
        graph = self.model.graph
        for node in graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.name == old:
                value.name = new
        self._tensors[new] = self._tensors.pop(old)
        self._facts[new] = self._facts.pop(old, (None, None))
        for layer in self._layers:
            layer._inputs = [new if name == old else name for name in layer._inputs]
        self.changed = True

    def to_onnx(self) -> bytes:
        """The model's bytes, with its weights. Raises ConfigError for more than 2 GiB, which bytes cannot hold."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        if self._path is not None:
            onnx.external_data_helper.load_external_data_for_model(model, str(self._path.parent))
        if model.ByteSize() >= _LARGEST:
            raise ConfigError(f"{self.name!r} was changed after it was parsed, and has 2 GiB or more with its weights")
        data: bytes = model.SerializeToString()
        return data
