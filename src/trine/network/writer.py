"""Writes one layer as ONNX nodes. The type and shape of each value are known as soon as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network.older_opsets import spelled
from trine.network.shape_values import Contents, contents_of, propagate, refine_shape, set_contents

__all__ = ["OPSET", "Dim", "UnfinishedError", "Writer", "dims_of"]

OPSET = 23  # what the importer of PyTorch writes as well
_KNOWN_BYTES = 2048  # constants up to this size take part in shape inference

Dim = int | str | None  # a size, a symbol, or not known


class UnfinishedError(ConfigError):
    """What a layer computes makes no sense yet, but a property set later may mend it.

    A 3x3 window on a 2x2 image is one: padding comes as a property. It is raised when the layer's output is used.
    """


def dims_of(value: ir.Value) -> tuple[Dim, ...] | None:
    """The dims of ``value``; None where not even the rank is known."""
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None if dim.value is None else str(dim.value) for dim in value.shape)


class Writer:
    """The nodes and constants of one layer. ``where`` is how errors call it, ``name`` begins every name."""

    def __init__(self, where: str, name: str, opset: int = OPSET) -> None:
        self.where = where
        self.name = name
        self.opset = opset
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self._count = 0

    def error(self, text: str) -> ConfigError:
        """To raise: ``text`` said of this layer."""
        return ConfigError(f"{self.where}: {text}")

    def unfinished(self, text: str) -> UnfinishedError:
        """To raise where another property may still mend it."""
        return UnfinishedError(f"{self.where}: {text}")

    def op(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """One node with one output. Attributes that are None are left out."""
        return self.ops(op_type, inputs, attributes, domain=domain)[0]

    def ops(
        self,
        op_type: str,
        inputs: Iterable[ir.Value | None],
        attributes: Mapping[str, Any],
        *,
        outputs: int = 1,
        domain: str = "",
        version: int | None = None,
    ) -> Sequence[ir.Value]:
        """One node; its outputs. Raises ConfigError for what ONNX's own rules refuse."""
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        settings = {name: value for name, value in attributes.items() if value is not None}
        if self.opset < OPSET and not domain:
            try:
                given, settings = spelled(op_type, given, settings, self.opset)
            except ConfigError as err:
                raise self.unfinished(str(err)) from err
        node = ir.node(
            op_type,
            given,
            attributes=settings,
            domain=domain,
            num_outputs=outputs,
        )
        for value in node.outputs:
            value.name = self._fresh(op_type)
        self._infer(node, version if version is not None else self.opset)
        self.nodes.append(node)
        return node.outputs

    def constant(self, array: Any, label: str = "constant") -> ir.Value:
        """A constant; ``array`` is a tensor of onnx_ir, which is not copied, or anything that NumPy takes."""
        tensor = array if isinstance(array, ir.TensorProtocol) else ir.tensor(np.asarray(array))
        value = ir.Value(
            name=self._fresh(label),
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        if tensor.dtype in (ir.DataType.INT64, ir.DataType.INT32) and tensor.size <= 64 and len(tensor.shape) <= 1:
            set_contents(value, tuple(int(item) for item in tensor.numpy().reshape(-1)))
        self.constants.append(value)
        return value

    def ints(self, numbers: Iterable[int]) -> ir.Value:
        """A 1-D constant of int64."""
        return self.constant(np.array(list(numbers), np.int64), "ints")

    def scalar(self, number: float | bool, like: ir.Value) -> ir.Value:
        """A 0-D constant of the dtype of ``like``."""
        return self.constant(np.asarray(number, self.dtype(like).numpy), "scalar")

    def cast(self, value: ir.Value, dtype: DataType) -> ir.Value:
        """``value`` as ``dtype``; itself where it is that already."""
        return value if self.dtype(value) is dtype else self.op("Cast", value, to=dtype.onnx)

    def dtype(self, value: ir.Value) -> DataType:
        """The element type. Raises ConfigError where not known."""
        if value.dtype is None:
            raise self.error(f"the dtype of {value.name!r} is not known, so this layer cannot be written")
        return DataType.from_onnx(int(value.dtype))

    def dims(self, value: ir.Value) -> tuple[Dim, ...]:
        """The dims. Raises ConfigError where the rank is not known."""
        dims = dims_of(value)
        if dims is None:
            raise self.error(f"the rank of {value.name!r} is not known, so this layer cannot be written")
        return dims

    def rank(self, value: ir.Value) -> int:
        """How many dims."""
        return len(self.dims(value))

    def contents(self, value: ir.Value) -> Contents | None:
        """The integers, and symbols of dims, in a small value; None where not known."""
        return contents_of(value)

    def set_dims(self, value: ir.Value, dims: Sequence[Dim]) -> ir.Value:
        """``value``, whose dims the layer knows better than ONNX's inference does."""
        known = dims_of(value) or (None,) * len(dims)
        value.shape = ir.Shape([old if isinstance(old, int) else new for old, new in zip(known, dims, strict=True)])
        return value

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """``axis`` counted from the front. Raises ConfigError where the rank has no such axis."""
        if not -rank <= axis < rank:
            raise self.error(f"{what} {axis} is out of range for a tensor of {rank} dimensions")
        return axis % rank

    def _fresh(self, label: str) -> str:
        self._count += 1
        return f"{self.name}/{label}_{self._count}"

    def _infer(self, node: ir.Node, opset: int) -> None:
        """Types and shapes of the outputs, by ONNX's own rules; unknown where an input's are."""
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        except onnx.defs.SchemaError as err:
            if node.domain:
                return
            raise self.error(f"ONNX opset {opset} has no operator {node.op_type!r}") from err
        self._check_inputs(schema, node)
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for value in node.inputs:
            if value is None:
                continue
            if value.type is None:
                return
            assert value.name is not None
            types[value.name] = ir.to_proto(value).type
            known = _known_array(value)
            if known is not None:
                data[value.name] = onnx.numpy_helper.from_array(known)
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, ir.to_proto(node), types, data, opset_imports=[onnx.helper.make_opsetid(node.domain, opset)]
            )
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as err:
            raise self.error(f"{node.op_type}: {_sentence(err)}") from err
        for value in node.outputs:
            if value.name in inferred:
                value.type = ir.serde.deserialize_type_proto_for_type(inferred[value.name])
                value.shape = ir.serde.deserialize_type_proto_for_shape(inferred[value.name])
        refine_shape(node)
        propagate(node)

    def _check_inputs(self, schema: onnx.defs.OpSchema, node: ir.Node) -> None:
        """The number of inputs, and their dtypes."""
        least, most = schema.min_input, schema.max_input
        if not least <= len(node.inputs) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            where = "" if self.opset == OPSET else f" in opset {self.opset}"
            raise self.error(f"{node.op_type} takes {wanted} inputs, got {len(node.inputs)}{where}")
        bound: dict[str, tuple[int, str]] = {}
        for index, value in enumerate(node.inputs):
            formal = schema.inputs[min(index, len(schema.inputs) - 1)]
            if value is None:
                if index < least:
                    raise self.error(f"{node.op_type} cannot do without its input {index} ({formal.name})")
                continue
            if value.dtype is None or not isinstance(value.type, ir.TensorType):
                continue
            got = f"tensor({value.dtype.name.lower()})"
            if got not in formal.types:
                allowed = ", ".join(sorted(name.removeprefix("tensor(").removesuffix(")") for name in formal.types))
                raise self.error(
                    f"{node.op_type} does not take {_dtype_name(value)} as its input {index} ({formal.name}); "
                    f"it takes {allowed}. Convert it with add_cast"
                )
            if not formal.is_homogeneous:
                continue
            first, other = bound.setdefault(formal.type_str, (index, _dtype_name(value)))
            if other != _dtype_name(value):
                raise self.error(
                    f"{node.op_type} needs inputs {first} and {index} of one dtype, got {other} and "
                    f"{_dtype_name(value)}; convert one with add_cast"
                )


def _dtype_name(value: ir.Value) -> str:
    assert value.dtype is not None
    return DataType.from_onnx(int(value.dtype)).value


def _known_array(value: ir.Value) -> np.ndarray[Any, Any] | None:
    """The elements of a small constant, or of a shape that is wholly known."""
    tensor = value.const_value
    if tensor is not None and tensor.nbytes <= _KNOWN_BYTES and tensor.dtype != ir.DataType.STRING:
        return np.asarray(tensor.numpy())
    contents = contents_of(value)
    if contents is None or value.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
        return None
    numbers = [item for item in contents if isinstance(item, int)]
    if len(numbers) != len(contents) or value.shape is None:
        return None
    return np.array(numbers, value.dtype.numpy()).reshape((-1,) if len(value.shape) else ())


def _sentence(err: Exception) -> str:
    """ONNX's text on one line, without the C++ tags."""
    text = " ".join(str(err).split())
    for tag in ("[ShapeInferenceError]", "[TypeInferenceError]", "[TypeInferenceError)]", "(op_type:"):
        text = text.replace(tag, "" if tag[0] == "[" else tag)
    return text.strip()[:400]
