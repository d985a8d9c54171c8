"""The graph that every backend compiles from: ONNX bytes, with the large weights beside them.

Weights stay outside the ONNX bytes so that they can lie in the engine file, memory-mapped, and be handed to a
backend without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine import onnx_wire
from trine.errors import ConfigError, UnsupportedError

__all__ = ["INLINE_LIMIT", "MEMORY_LOCATION", "WEIGHT_ALIGNMENT", "PortableGraph", "Weight", "nbytes_of"]

INLINE_LIMIT = 1024  # bytes; initializers up to this stay in the ONNX bytes: shapes, scalars, small biases
WEIGHT_ALIGNMENT = 64  # a cache line, and the widest vector register
MEMORY_LOCATION = "*/_ORT_MEM_ADDR_/*"  # external data at an address of this process
_MAX_PROTOBUF = 2**31 - 1


def _bytes_as_array(data: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(data, np.uint8) if memoryview(data).nbytes else np.empty(0, np.uint8)


def nbytes_of(dtype: DataType, shape: tuple[int, ...]) -> int:
    """Bytes that a packed tensor takes: two 4-bit or four 2-bit elements share a byte."""
    return (math.prod(shape) * dtype.bits + 7) // 8


@dataclass(frozen=True, eq=False)
class Weight:
    """An initializer. ``data``: its packed little-endian elements, 1-D uint8, C-contiguous, maybe read-only.

    Bytes, memoryviews and arrays of any dtype are accepted for ``data`` and viewed as uint8, never copied.
    Raises ConfigError if their size does not fit dtype and shape.
    """

    name: str
    dtype: DataType
    shape: tuple[int, ...]
    data: np.ndarray[Any, np.dtype[np.uint8]]

    def __post_init__(self) -> None:
        if self.dtype is DataType.STRING:
            raise ConfigError(f"weight {self.name!r} holds strings; keep it in the ONNX bytes")
        data = self.data if isinstance(self.data, np.ndarray) else _bytes_as_array(self.data)
        if not data.flags.c_contiguous:
            raise ConfigError(f"weight {self.name!r} is not contiguous; pass np.ascontiguousarray(...)")
        wanted = nbytes_of(self.dtype, self.shape)
        if data.nbytes != wanted:
            raise ConfigError(
                f"weight {self.name!r}: got {data.nbytes} bytes, wanted {wanted} "
                f"for {self.dtype.value} {list(self.shape)}; pass the packed elements"
            )
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "data", data.reshape(-1).view(np.uint8))

    @classmethod
    def from_array(cls, name: str, array: np.ndarray[Any, Any]) -> Weight:
        """From an array of whole-byte elements (not int4 and the like). Copies only if not contiguous."""
        dtype = DataType.from_numpy(array.dtype)
        if dtype.bits < 8:
            raise ConfigError(f"weight {name!r} is {dtype.value}; pack its elements and call Weight(...)")
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        return cls(name, dtype, array.shape, np.ascontiguousarray(array))

    @property
    def nbytes(self) -> int:
        """Size of ``data``."""
        return self.data.nbytes

    @property
    def address(self) -> int:
        """Where ``data`` lies in memory. Valid while this object, or the engine file, is alive."""
        return int(self.data.ctypes.data)

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """A view with the weight's dtype and shape; packed 4- and 2-bit types stay 1-D uint8."""
        return self.data.view(self.dtype.numpy).reshape(self.shape) if self.dtype.bits >= 8 else self.data


Locate = Callable[[Weight], tuple[str, int, int]]


@dataclass(frozen=True, eq=False)
class PortableGraph:
    """``model``: an ONNX ``ModelProto`` without the initializers in ``weights``, those above INLINE_LIMIT."""

    model: bytes
    weights: tuple[Weight, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size of the ONNX bytes and all weights."""
        return len(self.model) + sum(weight.nbytes for weight in self.weights)

    def inline(self) -> bytes:
        """One whole ONNX model, weights copied in. Raises UnsupportedError above protobuf's 2 GiB."""
        overhead = sum(len(weight.name.encode()) + 16 * (len(weight.shape) + 4) for weight in self.weights)
        if self.nbytes + overhead > _MAX_PROTOBUF:
            raise UnsupportedError(
                f"the graph with its weights takes {self.nbytes / 2**30:.2f} GiB; one ONNX message holds "
                "at most 2 GiB. Use external(...), which leaves the weights where they are"
            )
        tensors = [onnx_wire.raw_tensor(w.name, w.dtype.onnx, w.shape, w.data.data) for w in self.weights]
        return onnx_wire.model_with_initializers(self.model, tensors)

    def external(self, location: str | Locate) -> bytes:
        """ONNX bytes whose weights are external data, nothing copied.

        ``location`` names one place in which the weights follow one another, each on a multiple of 64 bytes;
        or maps a weight to its (location, offset, length).
        """
        locate = location if callable(location) else _one_place(location, self.weights)
        tensors = [onnx_wire.external_tensor(w.name, w.dtype.onnx, w.shape, *locate(w)) for w in self.weights]
        return onnx_wire.model_with_initializers(self.model, tensors)

    def with_weights_as_inputs(self) -> bytes:
        """ONNX bytes in which each weight is one more input of the graph, behind the model's own."""
        return onnx_wire.model_with_inputs(self.model, [(w.name, w.dtype.onnx, w.shape) for w in self.weights])

    def in_memory(self) -> bytes:
        """ONNX bytes that name each weight by its address, as OpenVINO takes them.

        The bytes are good only in this process, and only while the weights are alive.
        """
        return self.external(lambda weight: (MEMORY_LOCATION, weight.address, weight.nbytes))


def weight_offsets(sizes: list[int]) -> list[int]:
    """Where weights of these sizes start, one after another and each aligned; then where the last ends."""
    offsets, end = [], 0
    for size in sizes:
        start = -(-end // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT
        offsets.append(start)
        end = start + size
    return [*offsets, end]


def _one_place(location: str, weights: tuple[Weight, ...]) -> Locate:
    starts = weight_offsets([weight.nbytes for weight in weights])
    offsets = {weight.name: start for weight, start in zip(weights, starts, strict=False)}
    return lambda weight: (location, offsets[weight.name], weight.nbytes)
