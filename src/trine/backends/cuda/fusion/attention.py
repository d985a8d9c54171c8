"""Attention that the graph spells out in ways of its own: two products with a softmax between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import (
    Attention,
    Buffer,
    Epilogue,
    Expr,
    Gemm,
    Pointwise,
    Softmax,
    View,
    contiguous_strides,
)
from trine.backends.cuda.lowering.views import broadcast, covers_buffer, expressed_like, permuted, shape_blocks

__all__ = ["fuse_attention"]


def fuse_attention(program: Program) -> None:
    """Before: Gemm(q, k) + bias; Pointwise(+ mask); Softmax; Gemm(p, v). After: Attention(q, k, v, bias + mask).

    Biases and masks are constants here, and may repeat: that of shifted windows has one entry for each window of an
    image. Stays: scores or probabilities that others read; computed masks in between; other work on the scores.
    """
    for index, group in program.positions():
        if isinstance(group, Softmax) and not group.log and covers_buffer(group.x) and covers_buffer(group.y):
            _fuse(program, index, group)


@dataclass
class _Scores:
    """What was found between the first product and the softmax."""

    product: int
    scale: float
    constants: list[np.ndarray]  # each of four axes (B' dividing B, H or 1, S or 1, T or 1)
    absorbed: list[int]


def _fuse(program: Program, index: int, softmax: Softmax) -> None:
    readers = program.readers(softmax.y.buffer)
    second = program.at(readers[0]) if len(readers) == 1 else None
    if not isinstance(second, Gemm) or second.a.buffer is not softmax.y.buffer or second.prologue is not None:
        return
    if second.epilogue != Epilogue() or not covers_buffer(second.a) or len(second.a.shape) not in (3, 4):
        return
    found = _scores(program, softmax.x, index, softmax.scale)
    if found is None:
        return
    first = program.at(found.product)
    assert isinstance(first, Gemm)
    if first.y.shape != second.a.shape or first.prologue is not None:
        return
    q, scale, scaling = _unscaled(program, first, found.product)
    q, k, v, y = (_four(each) for each in (q, first.b, permuted(second.b, _swapped(second.b)), second.y))
    if any(each.strides[3] != 1 and each.shape[3] != 1 for each in (q, k, v, y)):
        return
    if softmax.y.shape[-1] != second.a.shape[-1]:
        return
    bias = _bias(found.constants, q, k, first.y.dtype, first.name)
    for each in (*found.absorbed, found.product, index, *scaling):
        program.put(each, None)
    attention = Attention(
        name=f"{first.name} + {softmax.name} + {second.name}", y=y, q=q, k=k, v=v, scale=found.scale * scale, bias=bias
    )
    program.put(readers[0], attention)


def _scores(program: Program, x: View, reader: int, scale: float) -> _Scores | None:
    """Walk back from the softmax to the product, over sums with constants and products with one number."""
    steps: list[tuple[Pointwise, int]] = []
    absorbed: list[int] = []
    view = x
    while True:
        found = program.only_writer(view)
        if found is None or not program.only_reader(view.buffer, reader):
            return None
        writer, group = found
        if not covers_buffer(group.y) or not covers_buffer(view):
            return None
        if isinstance(group, Gemm):
            break
        if not isinstance(group, Pointwise) or group.by_rows or group.zero_after:
            return None
        computed = [each for each, one in enumerate(group.inputs) if one.buffer.kind != "weight"]
        if len(computed) != 1:
            return None
        steps.append((group, computed[0]))
        absorbed.append(writer)
        view, reader = group.inputs[computed[0]], writer
    total: list[np.ndarray] = []
    residual = group.epilogue.residual
    if group.epilogue != Epilogue(residual=residual) or len(group.y.shape) not in (3, 4):
        return None
    if residual is not None:
        found_constant = _constant(residual, group.y, group.y)
        if found_constant is None:
            return None
        total.append(found_constant)
    for step, own in reversed(steps):
        result = _sum(step, own, step.expr, group.y)
        if result is None:
            return None
        total = [each * np.float32(result[0]) for each in total] + result[1]
        scale *= result[0]
    return _Scores(writer, scale, total, absorbed)


def _sum(step: Pointwise, own: int, expr: Expr, wanted: View) -> tuple[float, list[np.ndarray]] | None:
    """``expr`` as input * factor + constants."""
    if expr.op == "input":
        return (1.0, []) if expr.index == own else None
    if expr.op not in ("add", "mul") or len(expr.args) != 2:
        return None
    for inner, other in (expr.args, expr.args[::-1]):
        found = _sum(step, own, inner, wanted)
        if found is None:
            continue
        if other.op == "constant":
            number = np.full((1, 1, 1, 1), other.value, np.float32)
        elif other.op == "input" and other.index != own:
            constant = _constant(step.inputs[other.index], step.inputs[own], wanted)
            if constant is None:
                return None
            number = constant
        else:
            return None
        if expr.op == "add":
            return found[0], [*found[1], number]
        if number.size == 1:
            factor = float(number.reshape(()))
            return found[0] * factor, [each * np.float32(factor) for each in found[1]]
        return None
    return None


def _constant(view: View, given: View, wanted: View) -> np.ndarray | None:
    """A constant with the axes of ``given`` as (B', H', S', T'): 1 where it repeats, B' where its outer part does."""
    if view.buffer.kind != "weight" or view.buffer.data is None or view.dtype not in ("fp32", "fp16", "bf16"):
        return None
    if given.shape != view.shape or not given.contiguous or not wanted.contiguous:
        return None
    shape = [1 if stride == 0 else length for length, stride in zip(view.shape, view.strides, strict=True)]
    data = np.lib.stride_tricks.as_strided(
        view.buffer.data[view.offset :], shape, [stride * 4 for stride in view.strides]
    )
    result = [1] * len(wanted.shape)
    for old, new in shape_blocks(view.shape, wanted.shape):
        lengths = [shape[axis] for axis in old]
        full = [view.shape[axis] for axis in old]
        while lengths and lengths[0] == 1:
            lengths, full = lengths[1:], full[1:]
        if lengths != full:
            return None
        period = math.prod(lengths)
        if len(new) > 1 and period not in (1, math.prod(wanted.shape[axis] for axis in new)):
            return None
        if period == 1:
            continue
        if len(new) > 1:
            for axis in new:
                result[axis] = wanted.shape[axis]
        elif period not in (1, wanted.shape[new[0]]) and new[0] != 0:
            return None
        else:
            result[new[0]] = period
    made = np.ascontiguousarray(data).reshape(result)
    return made[:, None] if made.ndim == 3 else made


def _bias(constants: list[np.ndarray], q: View, k: View, dtype: str, name: str) -> View | None:
    """The sum of all, in the scores' element type, spread to (B, H, S, T); fewer in front where that repeats."""
    if not constants:
        return None
    total = constants[0]
    for each in constants[1:]:
        total = total + each
    wanted = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    flat = np.ascontiguousarray(total, np.float32)
    buffer = Buffer(f"{name} bias", "weight", dtype, flat.size, flat.reshape(-1))
    view = View(buffer, flat.shape, contiguous_strides(flat.shape))
    front = wanted[0] if flat.shape[0] == 1 else flat.shape[0]
    return broadcast(view, (front, *wanted[1:]))


def _unscaled(program: Program, first: Gemm, index: int) -> tuple[View, float, list[int]]:
    """The queries, without a group that only multiplies them with one number; that number; the group's position."""
    found = program.only_writer(first.a)
    if found is None or not program.only_reader(first.a.buffer, index) or not isinstance(found[1], Pointwise):
        return first.a, 1.0, []
    group = found[1]
    expr = group.expr
    if (
        expr.op != "mul"
        or len(group.inputs) != 1
        or group.by_rows
        or not covers_buffer(group.y)
        or not covers_buffer(first.a)
    ):
        return first.a, 1.0, []
    numbers = [each for each in expr.args if each.op == "constant"]
    if len(numbers) != 1 or {each.op for each in expr.args} != {"input", "constant"}:
        return first.a, 1.0, []
    q = expressed_like(group.inputs[0], group.y, first.a)
    if q is None or q.dtype != first.a.dtype:
        return first.a, 1.0, []
    return q, float(numbers[0].value), [found[0]]


def _swapped(view: View) -> list[int]:
    axes = list(range(len(view.shape)))
    return [*axes[:-2], axes[-1], axes[-2]]


def _four(view: View) -> View:
    """One batch axis as batch and one head."""
    if len(view.shape) == 4:
        return view
    return replace(view, shape=(view.shape[0], 1, *view.shape[1:]), strides=(view.strides[0], 0, *view.strides[1:]))
