"""What NVIDIA's driver refuses in a TMA descriptor, by the CUDA driver API: cuTensorMapEncodeTiled and -Im2col."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trine.backends.cuda.groups import ITEM_BYTES


def check_tensor_map(description: Mapping[str, Any], address: int) -> None:
    size = ITEM_BYTES[description["dtype"]]
    shape, strides, box = (description[name] for name in ("shape", "strides", "box"))
    assert address % 16 == 0, description
    assert len(shape) == len(strides) <= 5, description
    assert all(1 <= n <= 1 << 32 for n in shape), description
    assert all(0 < step * size < 1 << 40 and step * size % 16 == 0 for step in strides[:-1]), description
    assert strides[-1] == 1, description
    assert box[-1] * size % 16 == 0, description
    assert all(1 <= n <= 256 for n in box), description
    assert box[-1] * size <= (description["swizzle"] or 1 << 32), description
    im2col = description["im2col"]
    if im2col is None:
        assert len(box) == len(shape), description
        return
    assert 3 <= len(shape) <= 5, description
    assert 1 <= im2col["channels"] <= 256, description
    assert 1 <= im2col["pixels"] <= 1024, description
    assert all(1 <= step <= 8 for step in im2col["steps"]), description
    bound = {3: 1 << 15, 4: 1 << 7, 5: 1 << 4}[len(shape)]
    assert all(-bound <= corner < bound for name in ("lower", "upper") for corner in im2col[name]), description
