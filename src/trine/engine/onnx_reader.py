"""Reads what an inspector shows of an ONNX model, from its bytes alone: the runtime has no onnx package.

A protobuf message is a run of (field number << 3 | wire type) and value; field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.in.proto. Weights' values and subgraphs are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trine.dtypes import DataType
from trine.errors import ConfigError, EngineFormatError

__all__ = ["GraphView", "NodeView", "TensorView", "read_graph"]

MAX_OBJECTS = 1_000_000  # nodes, names and attributes: bounds what a hostile file can make us allocate
MAX_ATTRIBUTE_ITEMS = 64  # longer lists are shown by their length
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class TensorView:
    """A tensor's name, dtype ("" when the model does not say) and shape (None likewise; "?" for one dim)."""

    name: str
    dtype: str = ""
    shape: tuple[int | str, ...] | None = None


@dataclass(frozen=True)
class NodeView:
    """One node. Attribute values are int, float, str, lists of these, or a word such as "<tensor>"."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class GraphView:
    """A graph's nodes in order, and every tensor of which it tells dtype and shape, by name."""

    inputs: tuple[str, ...]  # those that a caller gives, not initializers that are listed as inputs too
    nodes: tuple[NodeView, ...]
    tensors: Mapping[str, TensorView]
    initializers: Mapping[str, TensorView]
    opsets: Mapping[str, int]


def read_graph(model: bytes | memoryview) -> GraphView:
    """The graph of the ONNX ModelProto ``model``. Raises EngineFormatError (section "graph") if malformed."""
    inputs: list[str] = []
    nodes: list[NodeView] = []
    tensors: dict[str, TensorView] = {}
    initializers: dict[str, TensorView] = {}
    opsets: dict[str, int] = {}
    budget = [MAX_OBJECTS]
    for number, value in _fields(memoryview(model), budget):
        if number == 8:
            opset = dict(_fields(_bytes(value), budget))
            opsets[_text(opset.get(1, b""))] = _int(opset.get(2, 0))
        if number != 7:
            continue
        # A message that occurs twice is merged: here, that is reading both.
        for part, content in _fields(_bytes(value), budget):
            if part == 1:
                nodes.append(_node(_bytes(content), budget))
            elif part == 5:
                view = _initializer(_bytes(content), budget)
                initializers[view.name] = view
            elif part in (11, 12, 13):
                view = _value_info(_bytes(content), budget)
                tensors[view.name] = view
                if part == 11:
                    inputs.append(view.name)
    given = tuple(name for name in inputs if name not in initializers)
    return GraphView(given, tuple(nodes), tensors, initializers, opsets)


def _damaged(why: str) -> EngineFormatError:
    return EngineFormatError(f"the ONNX bytes are malformed ({why}); build the engine again", "graph")


def _fields(data: memoryview, budget: list[int]) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value: an int for varints and fixed widths (raw bits), else the bytes."""
    at = 0
    while at < len(data):
        budget[0] -= 1
        if budget[0] < 0:
            raise _damaged(f"more than {MAX_OBJECTS} fields")
        key, at = _varint(data, at)
        wire, size = key & 7, 0
        if wire == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == LENGTH:
            size, at = _varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise _damaged(f"wire type {wire}")
        if size > len(data) - at:
            raise _damaged(f"a field of {size} bytes in {len(data) - at}")
        chunk = data[at : at + size]
        at += size
        yield key >> 3, chunk if wire == LENGTH else int.from_bytes(chunk, "little")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _damaged("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise _damaged("a number of more than ten bytes")


def _bytes(value: int | memoryview | bytes) -> memoryview:
    if isinstance(value, int):
        raise _damaged("a number where a message belongs")
    return memoryview(value)


def _text(value: int | memoryview | bytes) -> str:
    return bytes(_bytes(value)).decode("utf-8", errors="replace")


def _int(value: int | memoryview | bytes) -> int:
    if not isinstance(value, int):
        raise _damaged("a message where a number belongs")
    return value - (1 << 64) if value >> 63 else value


def _ints(value: int | memoryview, budget: list[int]) -> list[int]:
    """A repeated int64 field: one number, or several packed together."""
    if isinstance(value, int):
        return [_int(value)]
    numbers, at = [], 0
    while at < len(value):
        budget[0] -= 1
        if budget[0] < 0:
            raise _damaged(f"more than {MAX_OBJECTS} fields")
        number, at = _varint(value, at)
        numbers.append(_int(number))
    return numbers


def _dtype(number: int) -> str:
    try:
        return DataType.from_onnx(number).value
    except ConfigError:
        return ""


def _node(data: memoryview, budget: list[int]) -> NodeView:
    inputs: list[str] = []
    outputs: list[str] = []
    texts: dict[int, str] = {}
    attributes: dict[str, Any] = {}
    for number, value in _fields(data, budget):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 5:
            name, attribute = _attribute(_bytes(value), budget)
            attributes[name] = attribute
        elif number in (3, 4, 7):
            texts[number] = _text(value)
    return NodeView(texts.get(4, ""), texts.get(7, ""), texts.get(3, ""), tuple(inputs), tuple(outputs), attributes)


def _attribute(data: memoryview, budget: list[int]) -> tuple[str, Any]:
    name, kind = "", 0
    single: Any = None
    items: list[Any] = []
    for number, value in _fields(data, budget):
        if number == 1:
            name = _text(value)
        elif number == 20:
            kind = _int(value)
        elif number == 2:
            single = _float(_int(value))
        elif number == 3:
            single = _int(value)
        elif number == 4:
            single = _text(value)
        elif number == 7:
            items += [_float(_int(value))] if isinstance(value, int) else _packed_floats(value)
        elif number == 8:
            items += _ints(value, budget)
        elif number == 9:
            items.append(_text(value))
        elif number in _OPAQUE:
            single = f"<{_OPAQUE[number]}>"
    if items or (single is None and kind in (6, 7, 8)):  # FLOATS, INTS, STRINGS, which may be empty
        short = len(items) <= MAX_ATTRIBUTE_ITEMS
        return name, items if short else f"<{len(items)} values>"
    return name, (0 if kind == 2 else 0.0 if kind == 1 else "") if single is None else single


_OPAQUE = {5: "tensor", 6: "graph", 10: "tensors", 11: "graphs", 14: "type", 22: "sparse tensor"}


def _float(bits: int) -> float:
    value: float = struct.unpack("<f", (bits & 0xFFFFFFFF).to_bytes(4, "little"))[0]
    return float(f"{value:.7g}")  # the shortest text that is this float32 is what a reader expects


def _packed_floats(data: memoryview) -> list[float]:
    return [_float(int.from_bytes(data[at : at + 4], "little")) for at in range(0, len(data) - 3, 4)]


def _initializer(data: memoryview, budget: list[int]) -> TensorView:
    dims: list[int | str] = []
    name, dtype = "", 0
    for number, value in _fields(data, budget):
        if number == 1:
            dims += _ints(value, budget)
        elif number == 2:
            dtype = _int(value)
        elif number == 8:
            name = _text(value)
    return TensorView(name, _dtype(dtype), tuple(dims))


def _value_info(data: memoryview, budget: list[int]) -> TensorView:
    name, dtype = "", ""
    shape: tuple[int | str, ...] | None = None
    for number, value in _fields(data, budget):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for kind, content in _fields(_bytes(value), budget):
                if kind == 1:  # a tensor; sequences, maps and optionals keep "" and None
                    dtype, shape = _tensor_type(_bytes(content), budget)
    return TensorView(name, dtype, shape)


def _tensor_type(data: memoryview, budget: list[int]) -> tuple[str, tuple[int | str, ...] | None]:
    dtype = ""
    shape: tuple[int | str, ...] | None = None
    for number, value in _fields(data, budget):
        if number == 1:
            dtype = _dtype(_int(value))
        elif number == 2:
            dims = [_dim(_bytes(d), budget) for part, d in _fields(_bytes(value), budget) if part == 1]
            shape = tuple(dims)
    return dtype, shape


def _dim(data: memoryview, budget: list[int]) -> int | str:
    dim: int | str = "?"
    for number, value in _fields(data, budget):
        if number == 1:
            dim = _int(value)
        elif number == 2:
            dim = _text(value)
    return dim
