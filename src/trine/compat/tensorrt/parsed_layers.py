"""The nodes and values of a parsed model, as the layers and tensors of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from trine.compat.tensorrt.parsed_facts import facts_of, reshape_input
from trine.dtypes import DataType
from trine.errors import ConfigError

if TYPE_CHECKING:
    from trine.compat.tensorrt.parsed_network import ParsedNetwork

__all__ = ["ParsedLayer", "ParsedTensor"]

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

# What `op` is where it is not the operator's name.
_OPERATIONS = {
    **{name: name.upper() for name in f"{_KINDS['UNARY']} Pow Max Min Div Sub And Or Xor Equal Greater Less".split()},
    **{f"Reduce{name}": name.upper() for name in ("Sum", "Max", "Min", "Prod")},
    **{"Add": "SUM", "Mul": "PROD", "ReduceMean": "AVG", "Reciprocal": "RECIP", "IsInf": "ISINF", "IsNaN": "ISNAN"},
}


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
        if self._network._added is not None:
            self._network._added.refresh()
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
        self._index = index
        self._places = [at for at, name in enumerate(node.input) if name and name not in network._weights]

    def __getattr__(self, name: str) -> Any:
        if name == "op" and self._node.op_type in _OPERATIONS:
            return _OPERATIONS[self._node.op_type]
        raise AttributeError(f"node {self._node.op_type} of a parsed model has no {name!r}")

    @property
    def num_inputs(self) -> int:
        """How many inputs it has, weights not counted."""
        return len(self._places)

    @property
    def num_outputs(self) -> int:
        """How many outputs it has."""
        return len(self._node.output)

    def get_input(self, index: int) -> Any:
        """Input ``index``: the model's, or what ``set_input`` put there."""
        place = self._places[index]
        added = self._network._added.rewired.get((self._index, place)) if self._network._added else None
        return self._network._tensor(self._node.input[place]) if added is None else added

    def get_output(self, index: int) -> ParsedTensor:
        """Output ``index``."""
        return self._network._tensor(self._node.output[index])

    def set_input(self, index: int, tensor: Any) -> None:
        """Let input ``index`` be ``tensor``. Raises ConfigError for an input that there is not."""
        if not 0 <= index < len(self._places):
            raise ConfigError(f"layer {self.name!r} has {len(self._places)} inputs, so no {index}")
        network = self._network
        network._added_layers().rewired[self._index, self._places[index]] = network._placed(tensor)
        network.changed = True
