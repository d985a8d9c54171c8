"""What a matrix product gives to its kernels: operands that they can read, sizes, strides and constants."""

from __future__ import annotations

import math
from typing import Any

from trine.backends.cuda.groups import Gemm, Group, Normal, Prologue
from trine.backends.cuda.kernels.operands import activation_constants
from trine.backends.cuda.tactic import Argument, Scalar

__all__ = ["epilogue_constants", "in_units", "normal_refusals", "refusals"]

_FLOATS = ("fp16", "bf16", "fp32")


def refusals(group: Group) -> list[str]:
    """Why no kernel here can compute ``group``."""
    if not isinstance(group, Gemm):
        return [f"{type(group).__name__} is no matrix product"]
    reasons = []
    residual, prologue = group.epilogue.residual, group.prologue or Prologue()
    for name, view in {"a": group.a, "b": group.b, "y": group.y, "residual": residual}.items():
        if view is None:
            continue
        if view.dtype not in _FLOATS:
            reasons.append(f"{name}: {view.dtype}; wanted {', '.join(_FLOATS)}")
        if view.shape[:-2] != group.y.shape[:-2]:
            reasons.append(f"{name}: batch axes {view.shape[:-2]}; wanted {group.y.shape[:-2]}, as y has")
        if name == "b":
            if all(n != 1 and s != 1 for n, s in zip(view.shape[-2:], view.strides[-2:], strict=True)):
                reasons.append(f"b: strides {view.strides}; wanted one of the last two axes contiguous")
        elif view.strides[-1] != 1 and view.shape[-1] != 1:
            reasons.append(f"{name}: last axis of stride {view.strides[-1]}; wanted 1")
        if any(stride < 0 for stride in view.strides):
            reasons.append(f"{name}: negative strides {view.strides}")
    if group.a.dtype != group.b.dtype:
        reasons.append(f"a is {group.a.dtype}, b is {group.b.dtype}; wanted the same")
    if len(group.y.shape) > 4:
        reasons.append(f"{len(group.y.shape) - 2} batch axes; at most 2")
    for vector in (prologue.scale, prologue.shift, group.epilogue.bias):
        if vector is not None and vector.strides[-1] != 1 and vector.shape[-1] != 1:
            reasons.append(f"a vector of stride {vector.strides[-1]}; wanted 1")
    if group.normal is not None:
        reasons += normal_refusals(group.normal)
        if group.prologue is not None or len(group.y.shape) != 2:
            reasons.append("a normalisation with a prologue or batch axes; wanted neither")
    if prologue.scale is not None and len(prologue.scale.shape) == 2 and len(group.y.shape) > 2:
        reasons.append("a scale of each image with batch axes; wanted either")
    return reasons


def normal_refusals(normal: Normal) -> list[str]:
    """What of a normalisation no kernel takes."""
    reasons = []
    for name, view in {"statistics": normal.statistics, "sums": normal.sums}.items():
        if view.dtype != "fp32" or not view.contiguous:
            reasons.append(f"{name}: {view.dtype} with strides {view.strides}; wanted fp32, side by side")
    return reasons


def in_units(group: Gemm, turned: bool) -> tuple[dict[str, Argument | None], dict[str, int]]:
    """Sizes and strides as arguments, and the units in which they count."""
    b_row = group.b.strides[-1 if turned else -2]
    sizes: dict[str, Argument | None] = {}
    units = {}
    plain = {"columns": group.y.shape[-1], "products": group.a.shape[-1]}
    for name, size in plain.items():
        unit = math.gcd(size, 16)
        sizes[name], units[f"UNIT_{name.upper()}"] = Scalar("i32", size // unit), unit
    batch = group.y.shape[:-2]
    sizes["batches"] = Scalar("i32", batch[-1]) if batch else None
    for name, view in {"a": group.a, "b": group.b, "y": group.y, "residual": group.epilogue.residual}.items():
        ends = ("row", "outer", "inner")
        if view is None:
            sizes |= {f"{name}_{end}": None for end in ends}
            units[f"UNIT_{name.upper()}"] = 1
            continue
        outer, inner = (0, 0, *view.strides[:-2])[-2:]
        strides = (b_row if name == "b" else view.strides[-2], outer, inner)
        unit = math.gcd(*strides, 16)
        units[f"UNIT_{name.upper()}"] = unit
        for end, stride in zip(ends, strides, strict=True):
            sizes[f"{name}_{end}"] = Scalar("i32", stride // unit) if end == "row" or batch else None
    return sizes, units


def epilogue_constants(group: Gemm) -> dict[str, Any]:
    """The constants of ``_finish``."""
    residual = group.epilogue.residual
    views = [group.a, group.b, group.y] + ([residual] if residual else [])
    return {
        "WIDE": any(sum(n * s for n, s in zip(v.shape, v.strides, strict=True)) >= 1 << 31 for v in views),
        **activation_constants("ACT", group.epilogue.act, group.y.dtype),
        **activation_constants("AFTER", group.epilogue.act_after, group.y.dtype),
    }
