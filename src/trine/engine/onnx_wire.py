"""The few ONNX messages that the runtime writes and checks itself, so that it needs no onnx package.

Protobuf merges: the bytes of a ``ModelProto`` followed by the bytes of another parse as one message, in which
repeated fields are joined. So weights are added to a graph by appending a second, partial ``ModelProto`` that
holds nothing but initializers.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.in.proto
Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "Buffer",
    "check_self_contained",
    "external_tensor",
    "model_with_initializers",
    "model_with_inputs",
    "raw_tensor",
]

Buffer = bytes | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 (groups) are not in ONNX
_MAX_DEPTH = 200  # messages inside messages; ONNX Runtime and OpenVINO stop at 100


def raw_tensor(name: str, onnx_dtype: int, shape: Sequence[int], data: memoryview) -> list[Buffer]:
    """A ``TensorProto`` whose packed little-endian elements are ``data``, in parts to be joined."""
    return [_tensor_head(name, onnx_dtype, shape) + _tag(9, _BYTES) + varint(data.nbytes), data]


def external_tensor(
    name: str, onnx_dtype: int, shape: Sequence[int], location: str, offset: int, length: int
) -> list[Buffer]:
    """A ``TensorProto`` whose elements are elsewhere: ``length`` bytes from ``offset`` in ``location``."""
    entries = {"location": location, "offset": str(offset), "length": str(length)}
    data = b"".join(_field(13, _field(1, key.encode()) + _field(2, value.encode())) for key, value in entries.items())
    return [_tensor_head(name, onnx_dtype, shape) + data + _tag(14, _VARINT) + varint(1)]


def model_with_initializers(model: bytes, tensors: Sequence[list[Buffer]]) -> bytes:
    """``model`` with more ``GraphProto.initializer``, each given as the parts of a ``TensorProto``.

    The weights are copied once, into the result.
    """
    inner: list[Buffer] = []
    for parts in tensors:
        inner += [_tag(5, _BYTES) + varint(_size(parts)), *parts]
    return b"".join([model, _tag(7, _BYTES), varint(_size(inner)), *inner]) if inner else model


def model_with_inputs(model: bytes, inputs: Sequence[tuple[str, int, Sequence[int]]]) -> bytes:
    """``model`` with more ``GraphProto.input``, behind its own: a name, an ONNX dtype and a fixed shape each."""
    inner = b""
    for name, onnx_dtype, shape in inputs:
        dims = b"".join(_field(1, _tag(1, _VARINT) + varint(dim)) for dim in shape)
        tensor = _tag(1, _VARINT) + varint(onnx_dtype) + _field(2, dims)
        inner += _field(11, _field(1, name.encode()) + _field(2, _field(1, tensor)))
    return model + _field(7, inner) if inputs else model


def _tensor_head(name: str, onnx_dtype: int, shape: Sequence[int]) -> bytes:
    dims = b"".join(_tag(1, _VARINT) + varint(dim) for dim in shape)
    return dims + _tag(2, _VARINT) + varint(onnx_dtype) + _field(8, name.encode())


def _field(number: int, payload: bytes) -> bytes:
    return _tag(number, _BYTES) + varint(len(payload)) + payload


def _tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def _size(parts: Sequence[Buffer]) -> int:
    return sum(memoryview(part).nbytes for part in parts)


def varint(value: int) -> bytes:
    """``value`` >= 0, seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Message:
    """Which fields of a message lead to tensors; every other field is skipped unread."""

    def __init__(self) -> None:
        self.children: dict[int, _Message] = {}


_MODEL, _GRAPH, _NODE, _ATTRIBUTE = _Message(), _Message(), _Message(), _Message()
_TENSOR, _SPARSE, _FUNCTION, _TRAINING = _Message(), _Message(), _Message(), _Message()
_MODEL.children = {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION}
_GRAPH.children = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_NODE.children = {5: _ATTRIBUTE}
_ATTRIBUTE.children = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE}
_SPARSE.children = {1: _TENSOR, 2: _TENSOR}
_FUNCTION.children = {7: _NODE, 11: _ATTRIBUTE}
_TRAINING.children = {1: _GRAPH, 2: _GRAPH}


def check_self_contained(model: bytes) -> None:
    """Raise ValueError unless ``model`` is well-formed protobuf in which no tensor refers to outside data.

    Why: a backend that parses these bytes would open any file, or read any memory address, that an external
    tensor names. Only trine adds such tensors, after this check. One pass, no copies, a stack no deeper than
    the nesting.
    """
    stack: list[tuple[int, _Message]] = []
    message, pos, end = _MODEL, 0, len(model)
    while True:
        if pos == end:
            if not stack:
                return
            end, message = stack.pop()
            continue
        tag = model[pos]
        pos += 1
        if tag > 0x7F:
            tag, pos = _read_varint(model, pos - 1, end)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag > 0xFFFFFFFF:
            raise ValueError(f"impossible field tag {tag} before byte {pos}")
        if wire == _BYTES:
            if pos < end and model[pos] < 0x80:  # nearly all are one byte long; a call for each doubles the time
                length = model[pos]
                pos += 1
            else:
                length, pos = _read_varint(model, pos, end)
            if length > end - pos:
                raise ValueError(f"field {number} at byte {pos} is {length} bytes long, but {end - pos} are left")
            child = message.children.get(number)
            if child is not None:
                if len(stack) >= _MAX_DEPTH:
                    raise ValueError(f"messages nested more than {_MAX_DEPTH} deep at byte {pos}")
                stack.append((end, message))
                message, end = child, pos + length
                continue
            if number == 13 and message is _TENSOR:
                raise ValueError(f"a tensor at byte {pos} refers to external data")
            pos += length
        elif wire == _VARINT:
            value, pos = _read_varint(model, pos, end)
            if number == 14 and value and message is _TENSOR:
                raise ValueError(f"a tensor at byte {pos} refers to external data")
        elif wire in (_FIXED64, _FIXED32):
            pos += 8 if wire == _FIXED64 else 4
            if pos > end:
                raise ValueError(f"field {number} is cut short at byte {end}")
        else:
            raise ValueError(f"unknown wire type {wire} at byte {pos}")


def _read_varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """The varint at ``pos`` and the position after it; ValueError past ``end`` or above 64 bits."""
    value = shift = 0
    while pos < end and shift < 70:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
    raise ValueError(f"a number is cut short or too long at byte {pos}")
