"""Networks written layer by layer: a thin hand on an ``onnx_ir`` graph, in TensorRT's words."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network.operations import ACTIVATIONS, ELEMENTWISE, ActivationType, ElementWiseOperation

__all__ = ["Layer", "Network", "Tensor"]


class Tensor:
    """A value of the network. ``value`` is the ``onnx_ir.Value`` itself."""

    def __init__(self, value: ir.Value) -> None:
        self.value = value

    @property
    def name(self) -> str:
        """Its name; for graph outputs, the output's."""
        return self.value.name or ""

    @name.setter
    def name(self, name: str) -> None:
        self.value.name = name

    @property
    def shape(self) -> tuple[int | str, ...] | None:
        """Dims, with a symbol for each dynamic one; None where not yet inferred."""
        if self.value.shape is None:
            return None
        return tuple(dim if isinstance(dim, int) else str(dim.value) for dim in self.value.shape)

    @property
    def dtype(self) -> DataType | None:
        """The element type; None where not yet inferred."""
        return None if self.value.dtype is None else DataType.from_onnx(int(self.value.dtype))

    def __repr__(self) -> str:
        dtype = self.dtype.value if self.dtype else "?"
        return f"Tensor({self.name!r}, {dtype}, {self.shape})"


class Layer:
    """A node of the network. ``node`` is the ``onnx_ir.Node`` itself."""

    def __init__(self, node: ir.Node, network: Network) -> None:
        self.node = node
        self._network = network

    @property
    def name(self) -> str:
        """Shown by ``trine inspect`` and in errors."""
        return self.node.name or ""

    @name.setter
    def name(self, name: str) -> None:
        self.node.name = name

    @property
    def num_outputs(self) -> int:
        """How many outputs it has."""
        return len(self.node.outputs)

    def get_output(self, index: int) -> Tensor:
        """Output ``index``. The same object each time."""
        if not 0 <= index < self.num_outputs:
            raise ConfigError(
                f"layer {self.name!r} ({self.node.op_type}) has {self.num_outputs} output(s), so no {index}"
            )
        return self._network.wrap(self.node.outputs[index])


class Network:
    """Writes nodes into ``model``'s graph, at the end or ``before`` a node."""

    def __init__(self, model: ir.Model, *, before: ir.Node | None = None) -> None:
        self.model = model
        self._before = before
        self._wrapped: dict[ir.Value, Tensor] = {}

    def wrap(self, value: ir.Value) -> Tensor:
        """The one Tensor of ``value``."""
        return self._wrapped.setdefault(value, Tensor(value))

    def add_node(
        self,
        op_type: str,
        inputs: Sequence[Tensor | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
        domain: str = "",
        name: str | None = None,
    ) -> Layer:
        """Any ONNX operator. ``None`` leaves out an optional input; attributes are plain Python values."""
        values = [self._value(tensor, op_type) for tensor in inputs]
        node = ir.node(
            op_type, values, attributes=dict(attributes or {}), domain=domain, num_outputs=outputs, name=name
        )
        if self._before is None:
            self.model.graph.append(node)
        else:
            self.model.graph.insert_before(self._before, node)
        if domain not in self.model.opset_imports:
            self.model.opset_imports[domain] = 1
        _infer(node, self.model.opset_imports[domain])
        return Layer(node, self)

    def add_constant(self, array: Any) -> Layer:
        """``array`` (NumPy, PyTorch, or numbers) as a constant. A PyTorch tensor's memory is used as it is."""
        node = ir.node("Constant", [], attributes={"value": _tensor(array)})
        if self._before is None:
            self.model.graph.append(node)
        else:
            self.model.graph.insert_before(self._before, node)
        value = node.outputs[0]
        constant = node.attributes["value"].as_tensor()
        value.const_value = constant
        value.type = ir.TensorType(constant.dtype)
        value.shape = ir.Shape(constant.shape.numpy())
        return Layer(node, self)

    def add_activation(
        self,
        input: Tensor,  # noqa: A002  # TensorRT's name for it
        type: ActivationType | str,  # noqa: A002
        *,
        alpha: float | None = None,
        beta: float | None = None,
    ) -> Layer:
        """``type`` on each element, RELU for example. ``alpha`` and ``beta`` where the function has them."""
        kind = _member(ActivationType, type)
        op_type, names = ACTIVATIONS[kind]
        given = {"alpha": alpha, "beta": beta}
        attributes = {
            onnx: given[own] for own, onnx in zip(("alpha", "beta"), names, strict=False) if given[own] is not None
        }
        return self.add_node(op_type, [input], attributes)

    def add_elementwise(self, input1: Tensor, input2: Tensor, op: ElementWiseOperation | str) -> Layer:
        """``op`` on each pair of elements, SUM for example; shapes broadcast as in NumPy."""
        return self.add_node(ELEMENTWISE[_member(ElementWiseOperation, op)], [input1, input2])

    def add_identity(self, input: Tensor) -> Layer:  # noqa: A002
        """A copy."""
        return self.add_node("Identity", [input])

    def _value(self, tensor: Tensor | None, op_type: str) -> ir.Value | None:
        if tensor is None:
            return None
        if isinstance(tensor, Tensor):
            return tensor.value
        raise ConfigError(
            f"{op_type}: expected a Tensor of the network, got {type(tensor).__name__}; for a layer use "
            ".get_output(0), for a number or an array network.add_constant(...).get_output(0)"
        )


def _member(kind: Any, value: Any) -> Any:
    """The member of enum ``kind`` that ``value`` is, or is called. Other enums count by their members' names."""
    name = value if isinstance(value, str) else getattr(value, "name", str(value))
    if name not in kind.__members__:
        raise ConfigError(f"{kind.__name__} {name!r} is unknown; allowed: {', '.join(kind.__members__)}")
    return kind[name]


def _tensor(array: Any) -> ir.TensorProtocol:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return ir.tensor(array.detach().cpu().contiguous())
    return ir.tensor(np.asarray(array, dtype=np.float32 if isinstance(array, float) else None))


def _infer(node: ir.Node, opset: int) -> None:
    """Types and shapes of the outputs, by ONNX's own rules; unknown where an input's are."""
    import onnx
    import onnx.shape_inference

    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError as err:
        if node.domain:
            return
        raise ConfigError(f"ONNX opset {opset} has no operator {node.op_type!r}") from err
    types: dict[str, Any] = {}
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if value.type is None:
            return
        value.name = value.name or f"input_{index}"
        types[value.name] = ir.to_proto(value).type
    inferred = onnx.shape_inference.infer_node_outputs(
        schema, ir.to_proto(node), types, opset_imports=[onnx.helper.make_opsetid(node.domain, opset)]
    )
    for value in node.outputs:
        if value.name in inferred:
            made = ir.serde.deserialize_type_proto_for_type(inferred[value.name])
            value.type = made
            value.shape = ir.serde.deserialize_type_proto_for_shape(inferred[value.name])
