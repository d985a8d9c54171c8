"""From the IR that passes work on to the portable graph that an engine carries."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import INLINE_LIMIT, PortableGraph, Weight
from trine.errors import UnsupportedError

__all__ = ["freeze", "tensor_infos"]

BATCH = "batch"


def freeze(model: ir.Model, *, copy: bool = True) -> PortableGraph:
    """The graph as ONNX bytes, and its larger weights beside it.

    ``copy`` them where the graph outlives this call's caller: the model may go on training while an engine runs.
    Stack traces and other notes that exporters leave on nodes are dropped: they name people's files.
    """
    _name_after_modules(model)
    for node in _all_nodes(model):
        node.metadata_props.clear()
        node.doc_string = None
    graph = model.graph
    weights: list[Weight] = []
    taken: dict[str, ir.Value] = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if (
            tensor is None
            or tensor.nbytes <= INLINE_LIMIT
            or tensor.dtype.itemsize < 1
            or tensor.dtype == ir.DataType.STRING
        ):
            continue  # strings and packed 4-bit types are small enough to stay inside the message
        weights.append(
            Weight(name, DataType.from_onnx(int(tensor.dtype)), tuple(tensor.shape.numpy()), _bytes_of(tensor, copy))
        )
        taken[name] = value
    for name in taken:
        del graph.initializers[name]
    try:
        proto = ir.to_proto(model)
    finally:
        for name, value in taken.items():
            graph.initializers[name] = value
    return PortableGraph(proto.SerializeToString(), tuple(weights))


def tensor_infos(model: ir.Model) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Names, dtypes and shapes of the inputs and outputs; the first input's dynamic axis 0 is called "batch"."""
    batch_symbol = next(
        (
            str(value.shape[0])
            for value in model.graph.inputs
            if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int)
        ),
        None,
    )
    inputs = tuple(_tensor_info(value, batch_symbol, "input") for value in model.graph.inputs)
    outputs = tuple(_tensor_info(value, batch_symbol, "output") for value in model.graph.outputs)
    return inputs, outputs


def _tensor_info(value: ir.Value, batch_symbol: str | None, what: str) -> TensorInfo:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise UnsupportedError(
            f"{what} {value.name!r} is a {value.type}; engines take and give tensors. Give the model tensors instead"
        )
    if value.dtype is None or value.name is None:
        raise UnsupportedError(f"{what} {value.name!r} has no element type; run ONNX shape inference on the model")
    if value.shape is None:
        raise UnsupportedError(
            f"{what} {value.name!r} has an unknown rank; give the model a shape for it (a symbol for each dynamic axis)"
        )
    dims: list[int | str] = []
    for axis, dim in enumerate(value.shape):
        if isinstance(dim, int):
            dims.append(dim)
        elif dim.value is None:
            dims.append(f"{value.name}_{axis}")
        else:
            dims.append(BATCH if str(dim.value) == batch_symbol else str(dim.value))
    return TensorInfo(value.name, DataType.from_onnx(int(value.dtype)), tuple(dims))


def _bytes_of(tensor: ir.TensorProtocol, copy: bool) -> np.ndarray:
    array = np.array(tensor.numpy(), order="C") if copy else np.ascontiguousarray(tensor.numpy())
    return array.reshape(-1).view(np.uint8)


def _all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _name_after_modules(model: ir.Model) -> None:
    """Name nodes after the PyTorch modules that they come from ("layer1.0.conv1/Conv"), for people to find."""
    used: dict[str, int] = {}
    for node in model.graph:
        scope = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        if scope is None:
            continue
        parts = [part for part in ast.literal_eval(scope) if part]
        base = f"{parts[-2] if len(parts) > 1 else 'model'}/{node.op_type}"
        used[base] = used.get(base, 0) + 1
        node.name = base if used[base] == 1 else f"{base}_{used[base]}"
