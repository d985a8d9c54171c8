"""Nodes that the CPU computes as an ONNX model of their own, and the shapes of what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx_ir as ir

from trine.backends.cuda.lowering.static_graph import Array, StaticGraph
from trine.dtypes import DataType
from trine.engine.portable_graph import INLINE_LIMIT, PortableGraph, Weight
from trine.runtime.cuda.plan import CpuPart

__all__ = ["CpuModel", "Known"]


@dataclass(frozen=True)
class Known:
    """What is known of a value before it is there. ``dtype``: None where it is no tensor, or nobody knows; ``shape``:
    None where its rank is unknown, with None for each axis that is. ``varies``: the axes that have other lengths for
    other numbers of rows; None: perhaps all."""

    dtype: DataType | None
    shape: tuple[int | None, ...] | None
    varies: frozenset[int] | None = None

    @property
    def for_any_rows(self) -> tuple[int | None, ...] | None:
        """The shape with only those lengths that do not depend on the number of rows."""
        if self.shape is None:
            return None
        varies = frozenset(range(len(self.shape))) if self.varies is None else self.varies
        return tuple(None if axis in varies else dim for axis, dim in enumerate(self.shape))

    @property
    def size(self) -> tuple[int, ...] | None:
        """The shape, if all of it is known."""
        if self.shape is None or None in self.shape:
            return None
        return tuple(dim for dim in self.shape if dim is not None)


@dataclass
class CpuModel:
    """Gathers nodes, then constants and inputs, then outputs. What varies with the number of rows is left open in the
    model itself, so that one serves them all."""

    static: StaticGraph
    nodes: Sequence[ir.Node]
    inputs: list[tuple[str, Known]] = field(default_factory=list)
    outputs: list[tuple[str, DataType]] = field(default_factory=list)
    _weights: list[Weight] = field(default_factory=list)
    _initializers: list[onnx.TensorProto] = field(default_factory=list)
    _before: list[onnx.NodeProto] = field(default_factory=list)
    _after: list[onnx.NodeProto] = field(default_factory=list)

    def constant(self, value: ir.Value, array: Array) -> None:
        """A value that is known already."""
        name = str(value.name)
        dtype = DataType.from_onnx(int(value.dtype)) if value.dtype is not None else DataType.from_numpy(array.dtype)
        array = np.asarray(array, dtype.numpy, order="C")
        if array.nbytes > INLINE_LIMIT and dtype.bits >= 8:
            self._weights.append(Weight(name, dtype, array.shape, array.reshape(-1)))
        else:
            tensor = ir.Tensor(array, dtype=ir.DataType(dtype.onnx), name=name)
            self._initializers.append(ir.serde.serialize_tensor(tensor))

    def take(self, name: str, known: Known, given_as: DataType | None = None) -> None:
        """An input. ``given_as``: the element type in which it comes, where the nodes want another."""
        assert known.dtype is not None
        if given_as is None or given_as is known.dtype:
            self.inputs.append((name, known))
            return
        self.inputs.append((f"{name}/as_{given_as.value}", replace(known, dtype=given_as)))
        cast = onnx.helper.make_node("Cast", [self.inputs[-1][0]], [name], f"{name}/cast_in", to=known.dtype.onnx)
        self._before.append(cast)

    def give(self, name: str, dtype: DataType, given_as: DataType | None = None) -> None:
        """An output; a second one of the same value is a copy."""
        wanted = given_as or dtype
        taken = {known for known, _ in self.outputs}
        if wanted is dtype and name not in taken:
            self.outputs.append((name, dtype))
            return
        made = f"{name}/as_{wanted.value}" if wanted is not dtype else f"{name}/copy_{len(taken)}"
        self.outputs.append((made, wanted))
        self._after.append(onnx.helper.make_node("Cast", [name], [made], f"{made}/cast_out", to=wanted.onnx))

    def known(self) -> dict[str, Known]:
        """Types and shapes of everything that the nodes make, by ONNX's own rules, as far as they go."""
        # Large weights as inputs: for shapes, their values need not be copied.
        graph = PortableGraph(self._model(fixed=True).SerializeToString(), tuple(self._weights))
        model = onnx.load_from_string(graph.with_weights_as_inputs())
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        return {value.name: _known(value.type) for value in inferred.graph.value_info}

    def part(self, reasons: Mapping[ir.Node, str]) -> CpuPart:
        """As a CUDA plan has it."""
        nodes = tuple(
            {"name": node.name or str(node.outputs[0].name), "op": node.op_type, "reason": reasons.get(node, "")}
            for node in self.nodes
        )
        return CpuPart(
            self._model(fixed=False).SerializeToString(deterministic=True),
            tuple((each.name, each.dtype.value, each.shape, each.data.tobytes()) for each in self._weights),
            tuple((name, known.dtype.value) for name, known in self.inputs if known.dtype is not None),
            tuple((name, dtype.value) for name, dtype in self.outputs),
            nodes,
        )

    def _model(self, fixed: bool) -> onnx.ModelProto:
        inputs = []
        for name, known in self.inputs:
            assert known.dtype is not None
            shape = known.shape if fixed else known.for_any_rows
            inputs.append(onnx.helper.make_tensor_value_info(name, known.dtype.onnx, shape))
        outputs = [onnx.helper.make_tensor_value_info(name, dtype.onnx, None) for name, dtype in self.outputs]
        nodes = [*self._before, *(ir.serde.serialize_node(node) for node in self.nodes), *self._after]
        graph = onnx.helper.make_graph(nodes, "cpu", inputs, [] if fixed else outputs, self._initializers)
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in self.static.opsets.items()]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=self.static.ir_version)


def _known(kind: onnx.TypeProto) -> Known:
    if not kind.HasField("tensor_type"):
        return Known(None, None)
    tensor = kind.tensor_type
    dtype = DataType.from_onnx(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return Known(dtype, None)
    return Known(dtype, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim))
