"""What a group has to move and to compute at least: its floor on a GPU, for the roofline."""

from __future__ import annotations

import math

from trine.backends.cuda.groups import (
    ITEM_BYTES,
    Attention,
    Conv,
    ConvGemm,
    DepthwiseConv,
    Gemm,
    Group,
    Recurrence,
    SqueezeExcite,
    View,
)
from trine.backends.cuda.target import Target

__all__ = ["floor_us", "least_bytes", "operations"]


def least_bytes(group: Group) -> int:
    """Every operand read once and every result written once, in bytes. Repeated elements (stride 0) count once."""
    seen = {(view.buffer, view.offset, view.shape, view.strides): view for view in [*group.views(), *group.written()]}
    return sum(_distinct(view) * ITEM_BYTES[view.dtype] for view in seen.values())


def _distinct(view: View) -> int:
    """Windows that overlap have fewer elements than their shape says."""
    steps = [(n, stride) for n, stride in zip(view.shape, view.strides, strict=True) if stride != 0]
    return min(math.prod(n for n, _ in steps), 1 + sum((n - 1) * abs(stride) for n, stride in steps))


def operations(group: Group) -> int:
    """Multiplications and additions of the group's anchor; pointwise work is not counted."""
    if isinstance(group, Conv):
        return 2 * group.y.elements * math.prod(group.w.shape[1:])
    if isinstance(group, ConvGemm):
        return 2 * group.y.shape[0] * (group.w.elements + group.b.elements)
    if isinstance(group, DepthwiseConv):
        return 2 * group.y.elements * group.w.shape[0] * group.w.shape[1]
    if isinstance(group, Gemm):
        return 2 * group.y.elements * group.a.shape[-1]
    if isinstance(group, Attention):
        return 2 * math.prod(group.q.shape[:3]) * group.k.shape[2] * (group.q.shape[3] + group.v.shape[3])
    if isinstance(group, Recurrence):
        return 2 * group.gates.elements * group.r.shape[-1]
    if isinstance(group, SqueezeExcite):
        return 4 * group.y.shape[0] * group.w1.elements
    return 0


def floor_us(group: Group, target: Target) -> float:
    """No kernel can be much faster, in microseconds: the larger of bytes over bandwidth and operations over rate."""
    rate = target.tflops if group.y.dtype in ("fp16", "bf16") else target.tflops / 2
    return max(least_bytes(group) / target.bandwidth_gbps / 1e3, operations(group) / rate / 1e6)
