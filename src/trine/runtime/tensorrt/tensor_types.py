"""TensorRT's element types and trine's. Both sides of a plan have to mean the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo

__all__ = ["differing_tensors"]

# Types of less than a byte are left out: TensorRT packs them, NumPy does not.
_TYPES = {
    "FLOAT": DataType.FLOAT32,
    "HALF": DataType.FLOAT16,
    "BF16": DataType.BFLOAT16,
    "FP8": DataType.FLOAT8E4M3FN,
    "INT8": DataType.INT8,
    "INT32": DataType.INT32,
    "INT64": DataType.INT64,
    "UINT8": DataType.UINT8,
    "BOOL": DataType.BOOL,
}


def differing_tensors(infos: Sequence[TensorInfo], names: Iterable[str], type_of: Callable[[str], Any]) -> list[str]:
    """What differs between an engine's tensors and TensorRT's, in words; [] where they are the same.

    ``names``: TensorRT's inputs and outputs; ``type_of`` gives TensorRT's type of one. TensorRT takes float64 for
    float32 and says so in its log only, which makes four bytes of eight.
    """
    wanted, found = {info.name: info.dtype for info in infos}, set(names)
    problems = [f"{name!r} is missing" for name in wanted if name not in found]
    problems += [f"{name!r} is none of the engine's" for name in sorted(found - wanted.keys())]
    for name, dtype in wanted.items():
        if name in found:
            theirs = type_of(name).name
            if _TYPES.get(theirs) is not dtype:
                problems.append(f"{name!r} is {dtype.value}, and {theirs} to TensorRT")
    return problems
