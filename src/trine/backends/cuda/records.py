"""How a plan writes down a TMA descriptor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trine.backends.cuda.groups import ITEM_BYTES
from trine.backends.cuda.tactic import TensorMap

__all__ = ["tensor_map_record"]

_STEP_BYTES = 16  # cuTensorMapEncodeTiled: strides are multiples of it


def tensor_map_record(argument: TensorMap, base: tuple[Any, ...]) -> dict[str, Any]:
    """What LaunchRecord says of a descriptor whose view begins at ``base``."""
    view = argument.view
    inner = argument.box[-1] * ITEM_BYTES[view.dtype]
    im2col = argument.im2col
    return {
        "base": list(base),
        "dtype": view.dtype,
        "shape": list(view.shape),
        "strides": [*map(_allowed(view.dtype), view.shape[:-1], view.strides[:-1]), view.strides[-1]],
        "box": list(argument.box),
        # Triton's shared layouts: the widest swizzle that the tile's rows fill.
        "swizzle": next((width for width in (128, 64, 32) if inner >= width), 0),
        "im2col": None
        if im2col is None
        else {
            "lower": list(im2col[0]),
            "upper": list(im2col[1]),
            "channels": im2col[2],
            "pixels": im2col[3],
            "steps": list(argument.steps or [1] * len(view.shape)),
        },
    }


def _allowed(dtype: str) -> Callable[[int, int], int]:
    """Strides as the driver takes them: of an axis of length 1 no step is taken, but it looks at it all the same."""
    step = _STEP_BYTES // ITEM_BYTES[dtype]
    return lambda length, stride: max(-(-stride // step), 1) * step if length == 1 else stride
