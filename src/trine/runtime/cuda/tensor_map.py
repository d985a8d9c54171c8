"""A TMA descriptor, from what a launch record says of it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["encode_tensor_map"]

_ELEMENT_TYPES = {
    "fp16": "CU_TENSOR_MAP_DATA_TYPE_FLOAT16",
    "bf16": "CU_TENSOR_MAP_DATA_TYPE_BFLOAT16",
    "fp32": "CU_TENSOR_MAP_DATA_TYPE_FLOAT32",
    "int8": "CU_TENSOR_MAP_DATA_TYPE_UINT8",
    "uint8": "CU_TENSOR_MAP_DATA_TYPE_UINT8",
}
_ITEM_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "int8": 1, "uint8": 1}
_BYTES = 128  # of a descriptor


def encode_tensor_map(cu: Any, call: Callable[..., Any], description: Mapping[str, Any], address: int) -> bytes:
    """The 128 bytes for the tensor at ``address``. ``cu``: the bindings; ``call``: calls one of them by name.

    Shape, strides and box come outermost first; the driver wants the opposite, and no stride for the innermost axis.
    """
    size = _ITEM_BYTES[description["dtype"]]
    shape = [cu.cuuint64_t(n) for n in reversed(description["shape"])]
    strides = [cu.cuuint64_t(n * size) for n in list(reversed(description["strides"]))[1:]]
    width = f"{description['swizzle']}B" if description["swizzle"] else "NONE"
    common = (
        cu.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        getattr(cu.CUtensorMapSwizzle, f"CU_TENSOR_MAP_SWIZZLE_{width}"),
        cu.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
        cu.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    kind = getattr(cu.CUtensorMapDataType, _ELEMENT_TYPES[description["dtype"]])
    rank = len(shape)
    im2col = description["im2col"]
    if im2col is None:
        box = [cu.cuuint32_t(n) for n in reversed(description["box"])]
        ones = [cu.cuuint32_t(1)] * rank
        found = call("cuTensorMapEncodeTiled", kind, rank, address, shape, strides, box, ones, *common)
    else:
        steps = [cu.cuuint32_t(n) for n in reversed(im2col.get("steps") or [1] * rank)]
        found = call(
            "cuTensorMapEncodeIm2col",
            kind,
            rank,
            address,
            shape,
            strides,
            list(reversed(im2col["lower"])),
            list(reversed(im2col["upper"])),
            im2col["channels"],
            im2col["pixels"],
            steps,
            *common,
        )
    return ctypes.string_at(found.getPtr(), _BYTES)
