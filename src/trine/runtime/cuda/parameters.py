"""The parameters of a launch as the driver takes them: values in memory, and an array of their addresses."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine.runtime.cuda.plan import Kernel, LaunchRecord

__all__ = ["Addresses", "ParameterBlock", "is_edge", "pack_parameters"]

_ALIGNMENT = 64  # of a tensor map
_FETCH_UNIT = 16  # bytes: addresses and sizes are multiples of it (PTX ISA, cp.async.bulk.prefetch)
_LEAST_FETCHED = 512  # bytes at a time
_MOST_AT_ONCE = (1 << 20) - _FETCH_UNIT  # bytes: machine code has 16 bits for how many units a block fetches
_MOST_FETCHED = 8 << 20  # bytes for a launch: more would drive out of the cache what the others are about to read
_FORMATS = {"i32": "<i", "i64": "<q", "fp32": "<f"}


@dataclass(frozen=True)
class Addresses:
    """Where everything lies for one call."""

    arena: int
    weights: int
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    rows: int = 1


class ParameterBlock:
    """Values kept alive, and ``address``, that of an array of pointers to them."""

    def __init__(self, values: Sequence[bytes]) -> None:
        offsets, end = [], 0
        for value in values:
            align = _ALIGNMENT if len(value) > 8 else 8
            end = -(-end // align) * align
            offsets.append(end)
            end += len(value)
        self._memory = np.zeros(end + _ALIGNMENT, np.uint8)
        start = -self._memory.ctypes.data % _ALIGNMENT
        for offset, value in zip(offsets, values, strict=True):
            self._memory[start + offset : start + offset + len(value)] = np.frombuffer(value, np.uint8)
        base = self._memory.ctypes.data + start
        self._pointers = np.array([base + offset for offset in offsets] or [0], np.uint64)
        self.address = int(self._pointers.ctypes.data)
        self.values = tuple(values)


def is_edge(record: LaunchRecord) -> bool:
    """Whether the launch's parameters depend on the call: on the caller's memory or the number of rows."""
    return any(
        argument[0] in ("input", "output", "rows")
        or (argument[0] == "tensormap" and argument[1]["base"][0] in ("input", "output"))
        for argument in record.arguments
    )


def pack_parameters(
    kernel: Kernel,
    record: LaunchRecord,
    addresses: Addresses,
    encode_tensor_map: Callable[[Mapping[str, Any], int], bytes],
) -> ParameterBlock:
    """The parameters of ``record``, in the kernel's order, and in place of Triton's null pointers at the end what a
    kernel that waits is to fetch ahead.

    A tensor map is followed by its shape (i32 each) and strides (i64 each, in elements): Triton's convention for
    descriptors made on the host.
    """
    values: list[bytes] = []
    for argument in record.arguments:
        match argument:
            case ("tensormap", description):
                address = _address(tuple(description["base"]), addresses)
                values.append(encode_tensor_map(description, address))
                values += [struct.pack("<i", n) for n in description["shape"]]
                values += [struct.pack("<q", n) for n in description["strides"]]
            case ("rows", factor):
                values.append(struct.pack("<i", addresses.rows * factor))
            case (("i32" | "i64" | "fp32") as kind, value):
                values.append(struct.pack(_FORMATS[kind], value))
            case _:
                values.append(struct.pack("<Q", _address(argument, addresses)))
    ends = [bytes(8)] * kernel.null_pointers
    if kernel.waits and len(ends) >= 2 and 0 < record.ahead[1] <= _MOST_FETCHED:
        ends[-2:] = _fetched_ahead(record, addresses.weights)
    return ParameterBlock(values + ends)


def _fetched_ahead(record: LaunchRecord, weights: int) -> list[bytes]:
    """As dependent_launch.py's instructions take it: an address; bytes for each block, and how many blocks fetch."""
    offset, size = record.ahead
    start = -(-offset // _FETCH_UNIT) * _FETCH_UNIT
    units = max(0, offset + size - start) // _FETCH_UNIT
    blocks = math.prod(record.grid)
    piece = min(max(units // blocks, min(_LEAST_FETCHED // _FETCH_UNIT, units)) * _FETCH_UNIT, _MOST_AT_ONCE)
    count = min(blocks, units * _FETCH_UNIT // piece) if piece else 0
    return [struct.pack("<Q", weights + start), struct.pack("<II", piece, count)]


def _address(place: tuple[Any, ...], addresses: Addresses) -> int:
    kind = place[0]
    if kind == "arena":
        return addresses.arena + int(place[1])
    if kind == "weight":
        return addresses.weights + int(place[1])
    row = addresses.inputs if kind == "input" else addresses.outputs
    return row[int(place[1])] + int(place[2])
