"""From the portable graph to groups: read ``lower`` from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.fusion import fuse
from trine.backends.cuda.groups import Buffer, Expr, Group, Pointwise, View, contiguous_strides, with_views
from trine.backends.cuda.lowering.concatenation import Families, find_families, lower_concat
from trine.backends.cuda.lowering.factored import Factored
from trine.backends.cuda.lowering.operators import HANDLERS
from trine.backends.cuda.lowering.state import SAME, STORAGE, CannotLowerError, Lowering
from trine.backends.cuda.lowering.static_graph import StaticGraph, evaluate, load_static
from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import ConfigError, UnsupportedError

__all__ = ["Lowered", "lower"]

_OUTSIDE = {
    DataType.FLOAT32: "fp32",
    DataType.FLOAT16: "fp16",
    DataType.BFLOAT16: "bf16",
    DataType.INT64: "int64",
    DataType.INT32: "int32",
    DataType.INT8: "int8",
    DataType.UINT8: "uint8",
    DataType.BOOL: "bool",
}
_SHOWN = 20  # problems in the text of an error; all of them are in ``problems``


@dataclass(frozen=True)
class Lowered:
    """Groups in the order in which they run; the caller's buffers in the manifest's order."""

    groups: list[Group]
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]


def lower(
    portable: PortableGraph,
    rows: int,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    precision: str,
    *,
    fused: bool = True,
) -> Lowered:
    """What the graph computes for calls of ``rows`` rows, at ``precision`` ("fp32", "tf32", "fp16", "bf16").

    Every shape is a number then. ``fused=False`` leaves one group for each operator, for people who look for a fault.
    Raises UnsupportedError that lists every node without kernels and why, ConfigError for an unknown precision.
    """
    if precision not in STORAGE:
        raise ConfigError(f"precision {precision!r} is not one of the CUDA backend's: {', '.join(STORAGE)}")
    static = load_static(portable, rows, inputs)
    lowering = Lowering(precision, static.opset, rows)
    problems = _edge_problems(inputs, outputs)
    given = _take_inputs(lowering, static, inputs)
    families = find_families(static.graph)
    for node in static.graph:
        problems.extend(_walk(lowering, static, node, families))
    if problems:
        raise UnsupportedError(
            f"{len(problems)} nodes cannot run in the CUDA backend: {'; '.join(problems[:_SHOWN])}"
            f"{'; ...' if len(problems) > _SHOWN else ''}. Build for the CPU, or write these layers in other ways",
            problems,
        )
    made = _give_outputs(lowering, static, outputs)
    groups = fuse(lowering.groups) if fused else lowering.groups
    return Lowered(_rounded_weights(groups), given, made)


def _walk(lowering: Lowering, static: StaticGraph, node: ir.Node, families: Families) -> list[str]:
    """Lower one node; returns why not. After a failure, its outputs stand for something, so that others are tried."""
    lowering.name = node.name or node.op_type
    for value in node.inputs:
        if value is not None and value not in lowering.values and value in static.constants:
            lowering.values[value] = static.constants[value]
    try:
        known = [None if value is None else lowering.values[value] for value in node.inputs]
        constants = [each for each in known if each is None or isinstance(each, np.ndarray)]
        if len(constants) == len(known) and node.op_type not in ("RandomNormal", "RandomUniform", "If", "Loop", "Scan"):
            results = evaluate(node, static.opset, constants)
            lowering.values.update(zip(node.outputs, results, strict=False))
            return []
        if node.op_type in ("Shape", "Size") and known[0] is not None:
            lowering.values[node.outputs[0]] = _shape_of(node, known[0].shape)
            return []
        if node.domain:
            raise CannotLowerError(f"domain {node.domain!r} is unknown")
        made: list[View] | list[View | Factored]
        if node.op_type == "Concat":
            made = lower_concat(lowering, node, families)
        elif node.op_type in HANDLERS:
            made = HANDLERS[node.op_type](lowering, node)
        else:
            raise CannotLowerError("the operator has no kernels")
        lowering.values.update(zip(node.outputs, made, strict=False))
    except CannotLowerError as err:
        for value in node.outputs:
            shape = tuple(d if isinstance(d, int) else lowering.rows for d in value.shape) if value.shape else ()
            lowering.values[value] = lowering.new(shape)
        return [f"{node.name or node.outputs[0].name} ({node.op_type}): {err}"]
    return []


def _shape_of(node: ir.Node, shape: tuple[int, ...]) -> np.ndarray:
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
    return np.array(shape[start:end], np.int64)


def _edge_problems(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> list[str]:
    return [
        f"{kind} {info.name!r} is {info.dtype.value}, which has no kernels"
        for kind, infos in (("input", inputs), ("output", outputs))
        for info in infos
        if info.dtype not in _OUTSIDE
    ]


def _take_inputs(lowering: Lowering, static: StaticGraph, infos: Sequence[TensorInfo]) -> tuple[Buffer, ...]:
    """The caller's inputs, each copied into storage type; images channels-last where the network has convolutions."""
    images = any(node.op_type in ("Conv", "MaxPool", "AveragePool", "BatchNormalization") for node in static.graph)
    buffers = []
    for value, info, shape in zip(static.graph.inputs, infos, static.inputs, strict=True):
        buffer = Buffer(info.name, "input", _OUTSIDE.get(info.dtype, "fp32"), math.prod(shape))
        buffers.append(buffer)
        lowering.name = f"input {info.name}"
        x = View(buffer, shape, contiguous_strides(shape))
        dtype = lowering.storage if info.dtype.is_floating else buffer.dtype
        y = lowering.new(shape, dtype, (0, 2, 3, 1) if len(shape) == 4 and images else None)
        by_rows = bool(info.shape) and not isinstance(info.shape[0], int)
        lowering.values[value] = lowering.emit(
            Pointwise(name=lowering.name, y=y, inputs=(x,), expr=SAME, by_rows=by_rows)
        )
    return tuple(buffers)


def _give_outputs(lowering: Lowering, static: StaticGraph, infos: Sequence[TensorInfo]) -> tuple[Buffer, ...]:
    """Copies into the caller's outputs, contiguous and in the type that the manifest says."""
    buffers = []
    for value, info in zip(static.graph.outputs, infos, strict=True):
        found = lowering.of(value) if value in lowering.values else static.constants[value]
        lowering.name = f"output {info.name}"
        dtype = _OUTSIDE.get(info.dtype, "fp32")
        if not isinstance(found, View):
            found = lowering.weight(found, info.name, None if found.dtype.kind in "iub" else "fp32")
        buffer = Buffer(info.name, "output", dtype, found.elements)
        buffers.append(buffer)
        y = View(buffer, found.shape, contiguous_strides(found.shape))
        by_rows = bool(info.shape) and not isinstance(info.shape[0], int)
        lowering.emit(Pointwise(name=lowering.name, y=y, inputs=(found,), expr=Expr("input"), by_rows=by_rows))
    return tuple(buffers)


def _rounded_weights(groups: list[Group]) -> list[Group]:
    """Weights in the element type that they are stored in; only now, as fusion computes with them in fp32."""
    done: dict[Buffer, Buffer] = {}
    types = {"fp32": DataType.FLOAT32, "fp16": DataType.FLOAT16, "bf16": DataType.BFLOAT16}

    def change(view: View) -> View:
        buffer = view.buffer
        if buffer.kind != "weight" or buffer.dtype not in types:
            return view
        if buffer not in done:
            assert buffer.data is not None
            done[buffer] = replace(buffer, data=_rounded(buffer.data, types[buffer.dtype].numpy))
        return replace(view, buffer=done[buffer])

    return [with_views(group, change) for group in groups]


def _rounded(data: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """fp32 in another type. Large numbers that stand for infinity in a mask stay finite; infinity stays."""
    if data.dtype == dtype:
        return data
    with np.errstate(over="ignore"):
        rounded = data.astype(dtype)
    overflowed = np.isinf(rounded) & np.isfinite(data) if dtype == np.float16 else None
    if overflowed is not None and overflowed.any():
        rounded[overflowed] = np.copysign(np.finfo(np.float16).max, data[overflowed])
    return rounded
