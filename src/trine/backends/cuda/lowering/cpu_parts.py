"""Nodes without kernels as a CpuGroup: what it is given is copied out of the kernels' layouts, what it makes into them.

What cannot lie in the GPU's memory for kernels, as its shape depends on values or its element type has no kernels,
stays on the CPU, and so do those who read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.cpu_group import CpuGroup
from trine.backends.cuda.groups import Buffer, Pointwise, View, contiguous_strides
from trine.backends.cuda.lowering.cpu_model import CpuModel, Known
from trine.backends.cuda.lowering.schedule import Dataflow
from trine.backends.cuda.lowering.state import SAME, CannotLowerError, Lowering
from trine.backends.cuda.lowering.static_graph import StaticGraph
from trine.dtypes import DataType

__all__ = ["OUTSIDE", "STAYS_OUTSIDE", "CpuParts"]

# Element types of the caller's that kernels read and write; and those that only the CPU does.
OUTSIDE = {
    DataType.FLOAT32: "fp32",
    DataType.FLOAT16: "fp16",
    DataType.BFLOAT16: "bf16",
    DataType.INT64: "int64",
    DataType.INT32: "int32",
    DataType.INT8: "int8",
    DataType.UINT8: "uint8",
    DataType.BOOL: "bool",
}
STAYS_OUTSIDE = {
    DataType.FLOAT64: "fp64",
    DataType.INT16: "int16",
    DataType.UINT16: "uint16",
    DataType.UINT32: "uint32",
    DataType.UINT64: "uint64",
}
_NAMES_SHOWN = 3
_WHY_SHAPE = "its shape depends on values"


@dataclass(frozen=True)
class CpuParts:
    """Lowers batches of nodes for the CPU, beside a Lowering for the others. ``on_cpu``: all such nodes, and why;
    ``inputs``: the caller's buffers."""

    lowering: Lowering
    static: StaticGraph
    flow: Dataflow
    on_cpu: Mapping[ir.Node, str]
    inputs: Mapping[ir.Value, Buffer]
    images: bool  # whether tensors of four axes are kept channels-last
    _kept: dict[ir.Value, Known]

    @classmethod
    def of(
        cls,
        lowering: Lowering,
        static: StaticGraph,
        flow: Dataflow,
        on_cpu: Mapping[ir.Node, str],
        inputs: Sequence[Buffer],
        images: bool,
    ) -> CpuParts:
        """For one walk over the graph."""
        return cls(lowering, static, flow, on_cpu, dict(zip(static.graph.inputs, inputs, strict=True)), images, {})

    def lower(self, nodes: Sequence[ir.Node]) -> None:
        """One group for ``nodes``; what they make is given to later nodes and to the caller.

        Raises CannotLowerError where the CPU cannot be given what they read.
        """
        inside = dict.fromkeys(value for node in nodes for value in node.outputs if value.name)
        model = CpuModel(self.static, nodes)
        self.lowering.name = _name(nodes)
        reads = dict.fromkeys(value for node in nodes for value in self.flow.reads[node] if value not in inside)
        inputs = [self._take(model, value) for value in reads]
        known = model.known()
        outputs: list[View] = []
        back: list[tuple[ir.Value, View]] = []
        for value in inside:
            readers = [node for node in self.flow.readers.get(value, ()) if node not in nodes]
            if readers or value in self.static.graph.outputs:
                self._give(model, value, self._understood(value, known), readers, outputs, back)
        if not outputs:
            return  # nobody reads what they make
        given = [each for each in inputs if each is not None]
        part = model.part(self.on_cpu)
        rows = tuple(row for _, row in given)
        views = tuple(view for view, _ in given)
        name = self.lowering.name
        self.lowering.emit(
            CpuGroup(name=name, y=outputs[0], part=part, inputs=views, outputs=tuple(outputs), rows=rows)
        )
        for value, view in back:
            self.lowering.values[value] = self._for_kernels(view)

    def _take(self, model: CpuModel, value: ir.Value) -> tuple[View, tuple[int, int] | None] | None:
        """Where the CPU finds a value; None for a constant, which the model has."""
        lowering, name = self.lowering, str(value.name)
        if value in lowering.slots:
            model.take(name, self._kept[value])
            return View(lowering.slots[value], (), ()), None
        if value in lowering.stays and value not in self.inputs:
            raise CannotLowerError(f"it reads {name!r}: {lowering.stays[value]}")
        if value in self.inputs:
            buffer = self.inputs[value]
            shape = self.static.inputs[list(self.static.graph.inputs).index(value)]
            model.take(name, Known(_dtype(value), shape, self._varies(value, shape)))
            return View(buffer, shape, contiguous_strides(shape)), self._rows(value, shape)
        found = lowering.of(value) if value in lowering.values else self.static.constants[value]
        if isinstance(found, np.ndarray):
            model.constant(value, found)
            return None
        dtype = _dtype(value) or _ONNX_OF[found.dtype]
        held_as = DataType.FLOAT32 if dtype is DataType.FLOAT64 else dtype
        if held_as not in OUTSIDE:
            raise CannotLowerError(f"it reads {name!r}, {dtype.value} that kernels made, and none copies that")
        fresh = lowering.new(found.shape, OUTSIDE[held_as])
        lowering.emit(Pointwise(name=f"{name} for the CPU", y=fresh, inputs=(found,), expr=SAME))
        model.take(name, Known(dtype, found.shape, self._varies(value, found.shape)), held_as)
        return fresh, self._rows(value, found.shape)

    def _varies(self, value: ir.Value, shape: Sequence[int | None] | None) -> frozenset[int] | None:
        """Axes whose lengths are no numbers in the graph, or other ones; None where it says nothing."""
        if all(isinstance(dim, int) for each in self.static.graph.inputs for dim in each.shape or ()):
            return frozenset()
        if value.shape is None or shape is None or len(value.shape) != len(shape):
            return None
        return frozenset(axis for axis, dim in enumerate(value.shape) if dim != shape[axis])

    def _rows(self, value: ir.Value, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Which axis counts rows, by the graph's symbols."""
        if value.shape is None or len(value.shape) != len(shape):
            return None
        for axis, dim in enumerate(value.shape):
            if not isinstance(dim, int) and shape[axis] and shape[axis] % self.lowering.rows == 0:
                return axis, shape[axis] // self.lowering.rows
        return None

    def _understood(self, value: ir.Value, known: Mapping[str, Known]) -> Known:
        """By ONNX's rules; what these leave open, by what the graph says of the value."""
        found = known.get(str(value.name), Known(None, None))
        dtype = found.dtype or (_dtype(value) if isinstance(value.type, ir.TensorType | None) else None)
        if value.shape is None or (found.shape is not None and len(found.shape) != len(value.shape)):
            return Known(dtype, found.shape)
        said = tuple(self._size(dim) for dim in value.shape)
        if found.shape is None:
            return Known(dtype, said)
        return Known(dtype, tuple(b if a is None else a for a, b in zip(found.shape, said, strict=True)))

    def _size(self, dim: int | ir.SymbolicDim) -> int | None:
        if isinstance(dim, int):
            return dim
        symbols = {str(value.shape[0]) for value in self.static.graph.inputs if value.shape is not None and value.shape}
        return self.lowering.rows if dim.value is not None and str(dim.value) in symbols else None

    def _give(
        self,
        model: CpuModel,
        value: ir.Value,
        known: Known,
        readers: Sequence[ir.Node],
        outputs: list[View],
        back: list[tuple[ir.Value, View]],
    ) -> None:
        """Make outputs of the group for those who read a value. ``back``: what kernels read."""
        lowering, name, dtype, shape = self.lowering, str(value.name), known.dtype, known.size
        if dtype is None:
            raise CannotLowerError(f"{name!r} leaves the CPU, and is no tensor, or one of an unknown element type")
        for_caller = value in self.static.graph.outputs
        held_as = DataType.FLOAT32 if dtype is DataType.FLOAT64 and not for_caller else dtype
        if shape is not None and held_as in OUTSIDE:
            if for_caller or any(node not in self.on_cpu for node in readers):
                model.give(name, dtype, held_as)
                view = lowering.new(shape, OUTSIDE[held_as])
                outputs.append(view)
                back.append((value, view))
        else:
            lowering.stays[value] = _WHY_SHAPE if shape is None else f"{dtype.value} has no kernels"
            if for_caller:
                outputs.append(self._to_caller(model, value, dtype, shape))
        if any(node in self.on_cpu or value in lowering.stays for node in readers):
            model.give(name, dtype)
            lowering.slots[value] = Buffer(name, "slot", "uint8", 1)
            self._kept[value] = replace(known, varies=self._varies(value, known.shape))
            outputs.append(View(lowering.slots[value], (), ()))

    def _to_caller(self, model: CpuModel, value: ir.Value, dtype: DataType, shape: tuple[int, ...] | None) -> View:
        """An output of the graph that no kernel can write."""
        name = str(value.name)
        model.give(name, dtype)
        if shape is None or dtype not in STAYS_OUTSIDE:
            view = View(Buffer(name, "slot", "uint8", 1), (), ())
        else:
            buffer = Buffer(name, "output", STAYS_OUTSIDE[dtype], math.prod(shape))
            view = View(buffer, shape, contiguous_strides(shape))
        self.lowering.for_caller[value] = view.buffer
        return view

    def _for_kernels(self, view: View) -> View:
        """In storage type, and images channels-last."""
        lowering = self.lowering
        floating = view.dtype in ("fp32", "fp16", "bf16")
        dtype = lowering.storage if floating else view.dtype
        order = (0, 2, 3, 1) if len(view.shape) == 4 and self.images else None
        if dtype == view.dtype and order is None:
            return view
        y = lowering.new(view.shape, dtype, order)
        return lowering.emit(Pointwise(name=f"{lowering.name} copy", y=y, inputs=(view,), expr=SAME))


_ONNX_OF = {short: dtype for dtype, short in OUTSIDE.items()}


def _dtype(value: ir.Value) -> DataType | None:
    return None if value.dtype is None else DataType.from_onnx(int(value.dtype))


def _name(nodes: Sequence[ir.Node]) -> str:
    names = [node.name or str(node.outputs[0].name) for node in nodes]
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"CPU: {', '.join(names[:_NAMES_SHOWN])}{more}"
