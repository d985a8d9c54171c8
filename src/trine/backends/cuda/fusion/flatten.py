"""Images that are flattened for a product stay channels-last: the weights are turned instead, ahead of time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import Buffer, Gemm, Pointwise, View, contiguous_strides
from trine.backends.cuda.lowering.views import covers_buffer, memory_order, merged

__all__ = ["turn_flattened_weights"]


def turn_flattened_weights(program: Program) -> None:
    """Before: copy x (N, H, W, C) -> t (N, C * H * W); Gemm(t, w). After: Gemm(x, w with its columns in x's order).

    Stays: what others read too; weights that are computed; an x that is not packed behind its rows.
    """
    for index, group in program.positions():
        if not isinstance(group, Gemm) or group.prologue is not None or len(group.a.shape) != 2:
            continue
        if group.b.buffer.kind != "weight" or not covers_buffer(group.b) or not group.b.contiguous:
            continue
        found = program.only_writer(group.a)
        if found is None or not program.only_reader(group.a.buffer, index):
            continue
        copy = found[1]
        if not isinstance(copy, Pointwise) or copy.expr.op != "input" or copy.by_rows or copy.zero_after:
            continue
        turned = _turned(group, copy)
        if turned is not None:
            program.put(found[0], None)
            program.put(index, turned)


def _turned(group: Gemm, copy: Pointwise) -> Gemm | None:
    x, y = copy.inputs[0], copy.y
    rows, columns = group.a.shape
    if x.dtype != y.dtype or not covers_buffer(y) or not y.contiguous or not group.a.contiguous or y.shape[0] != rows:
        return None
    order = memory_order(x)
    if order[0] != 0:
        return None
    flat = merged(x, [(0,), order[1:]])
    if flat is None or flat.strides[1] != 1 or flat.shape[1] != columns:
        return None
    assert group.b.buffer.data is not None
    weights = group.b.buffer.data.reshape(group.b.shape[0], *y.shape[1:])
    data = np.ascontiguousarray(weights.transpose(0, *order[1:])).reshape(-1)
    buffer = Buffer(f"{group.b.buffer.name} turned", "weight", group.b.dtype, data.size, data)
    b = View(buffer, group.b.shape, contiguous_strides(group.b.shape))
    return replace(group, name=f"{copy.name} + {group.name}", a=flat, b=b)
