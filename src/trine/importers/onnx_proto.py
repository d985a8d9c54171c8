"""An ONNX file's bytes to a parsed, checked ModelProto, or a clear error that says what the file is instead."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx.checker
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from trine.dtypes import DataType
from trine.engine.file_kinds import what_it_is
from trine.errors import ConfigError, ModelImportError

__all__ = ["all_tensors", "parse", "read_file", "tensor_nbytes", "without_large_tensors"]

MAX_PROTOBUF = 2**31 - 1  # bytes that one protobuf message can have
INLINE_LIMIT = 1024  # bytes; larger weights are left out of what the C++ checker and shape inference see
_ENGINE_START = b"\x89TRINE"


def read_file(path: Path) -> bytes:
    """The file's bytes. Raises ModelImportError for what is missing, no ordinary file, empty or over 2 GiB."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as err:
        raise ModelImportError(f"{path}: no such file; give the path of an .onnx file") from err
    except OSError as err:
        raise ModelImportError(f"{path}: cannot be read: {err.strerror or err}") from err
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise ModelImportError(f"{path} is a folder; give the path of the .onnx file in it")
        if not stat.S_ISREG(status.st_mode):
            raise ModelImportError(f"{path} is no ordinary file; give the path of an .onnx file")
        if status.st_size > MAX_PROTOBUF:
            raise ModelImportError(
                f"{path} has {status.st_size / 2**30:.1f} GiB; an ONNX file holds at most 2 GiB. "
                "Save the weights as external data: onnx.save(model, path, save_as_external_data=True)"
            )
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(status.st_size)
    finally:
        os.close(fd)


def parse(data: bytes, what: str) -> onnx.ModelProto:
    """The model in ``data``; ``what`` names it in errors. Raises ModelImportError if there is none."""
    if not data:
        raise ModelImportError(f"{what} is empty; it should hold an ONNX model")
    kind = what_it_is(data[:64])
    if data.startswith(_ENGINE_START):
        raise ModelImportError(f"{what} is a trine engine, not a model; load it with trine.load(...)")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as err:
        if kind is not None and "ONNX model;" not in kind:
            raise ModelImportError(f"{what} is no ONNX model; it looks like {kind}") from err
        raise ModelImportError(
            f"{what} is no ONNX model, or one that is cut short ({len(data)} bytes); copy or export it again"
        ) from err
    if not model.HasField("graph") or model.ir_version <= 0:
        missing = "graph" if not model.HasField("graph") else "ir_version"
        looks = f"; it looks like {kind}" if kind is not None and "ONNX model;" not in kind else ""
        raise ModelImportError(f"{what} is no ONNX model, or one that is cut short: it has no {missing}{looks}")
    return model


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and every graph within a node of it or of a function."""
    waiting = [model.graph]
    waiting.extend(g for function in model.functions for g in _graphs_in(function.node))
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(_graphs_in(graph.node))


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node: of the graph, of graphs within nodes, of functions."""
    for graph in all_graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def all_tensors(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, bool]]:
    """Every tensor that holds data, and whether it is an initializer of the main graph."""
    for tensor in model.graph.initializer:
        yield tensor, True
    for graph in all_graphs(model):
        if graph is not model.graph:
            yield from ((tensor, False) for tensor in graph.initializer)
        for sparse in graph.sparse_initializer:
            yield sparse.values, False
            yield sparse.indices, False
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t, False
            yield from ((tensor, False) for tensor in attribute.tensors)


def _graphs_in(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def tensor_nbytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the elements take when packed. Raises ModelImportError for negative sizes and unknown types."""
    name = tensor.name or "(unnamed)"
    if any(dim < 0 for dim in tensor.dims):
        raise ModelImportError(
            f"tensor {name!r} has a negative size in its shape {list(tensor.dims)}; re-export the model"
        )
    try:
        dtype = DataType.from_onnx(tensor.data_type)
    except ConfigError as err:
        raise ModelImportError(f"tensor {name!r}: {err}") from err
    return (math.prod(int(dim) for dim in tensor.dims) * dtype.bits + 7) // 8


def check_names(model: onnx.ModelProto, what: str) -> None:
    """Every name must be text: protobuf lets through bytes that are not UTF-8, and much after it fails on them."""
    names: list[str | bytes] = []
    for graph in all_graphs(model):
        names.append(graph.name)
        for value in (*graph.input, *graph.output, *graph.value_info):
            names.append(value.name)
            names.extend(dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in all_nodes(model):
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names.extend(attribute.name for attribute in node.attribute)
    names.extend(tensor.name for tensor, _ in all_tensors(model))
    names.extend(name for function in model.functions for name in (function.name, function.domain))
    names.extend(entry.domain for entry in model.opset_import)
    for name in names:
        if isinstance(name, bytes):
            raise ModelImportError(f"{what} is damaged: the name {name[:80]!r} is no UTF-8 text; export it again")


def check_tensor_sizes(model: onnx.ModelProto) -> None:
    """Every tensor's data must be as large as its type and shape say, before anything allocates by its shape."""
    for tensor, _ in all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor_nbytes(tensor)
            continue
        nbytes, count = tensor_nbytes(tensor), math.prod(tensor.dims)
        got, wanted, unit = _payload(tensor, nbytes, count)
        if got != wanted:
            raise ModelImportError(
                f"tensor {tensor.name or '(unnamed)'!r} of shape {list(tensor.dims)} has {got} {unit}, wanted "
                f"{wanted}; the file is damaged or cut short; export it again"
            )


def _payload(tensor: onnx.TensorProto, nbytes: int, count: int) -> tuple[int, int, str]:
    """(what is there, what the shape wants, in which unit)."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data), nbytes, "bytes"
    kind = DataType.from_onnx(tensor.data_type)
    if kind is DataType.STRING:
        return len(tensor.string_data), count, "strings"
    if kind in (DataType.COMPLEX64, DataType.COMPLEX128):
        data = tensor.float_data if kind is DataType.COMPLEX64 else tensor.double_data
        return len(data), 2 * count, "numbers"
    if kind is DataType.FLOAT32:
        return len(tensor.float_data), count, "numbers"
    if kind is DataType.FLOAT64:
        return len(tensor.double_data), count, "numbers"
    if kind is DataType.INT64:
        return len(tensor.int64_data), count, "numbers"
    if kind in (DataType.UINT32, DataType.UINT64):
        return len(tensor.uint64_data), count, "numbers"
    return len(tensor.int32_data), nbytes if kind.bits < 8 else count, "numbers"


def without_large_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large and its external weights turned into inputs: small enough for ONNX's C++ parts.

    Weights are not copied. Types and shapes stay as they were.
    """
    small = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(small, field.name).extend(value)
        else:
            setattr(small, field.name, value)
    graph = model.graph
    for field, value in graph.ListFields():
        if field.name == "initializer":
            continue
        if field.is_repeated:
            getattr(small.graph, field.name).extend(value)
        else:
            setattr(small.graph, field.name, value)
    given = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor_nbytes(tensor) <= INLINE_LIMIT:
            small.graph.initializer.append(tensor)
        elif tensor.name not in given:
            small.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return small


def check(model: onnx.ModelProto, what: str) -> None:
    """ONNX's own checker, whose errors become ours."""
    small = without_large_tensors(model)
    for value in (*small.graph.input, *small.graph.output):
        if value.type.HasField("tensor_type"):  # the checker wants shapes; where there is none, the example has it
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(small)
    except UnicodeDecodeError as err:
        raise ModelImportError(f"{what} is damaged: it holds text that is no UTF-8; export it again") from err
    except onnx.checker.ValidationError as err:
        text = " ".join(str(err).split())
        raise ModelImportError(f"{what} is not a valid ONNX model: {text[:800]}") from err
