"""The meaning of every group, in NumPy: what kernels are tested against, and a device for plans without a GPU.

Memory is one arena of bytes, poisoned before the first group; buffers lie in it where the memory plan says. Operands
are read in their storage type, computed in fp32 and rounded once, when stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from trine.backends.cuda.cpu_group import CpuGroup, run_part
from trine.backends.cuda.groups import (
    Attention,
    Buffer,
    Conv,
    ConvGemm,
    DepthwiseConv,
    Epilogue,
    GatherRows,
    Gemm,
    Group,
    LayerNorm,
    Pointwise,
    Pool,
    Prologue,
    Recurrence,
    Reduce,
    RowStatistics,
    Softmax,
    SqueezeExcite,
    View,
)
from trine.backends.cuda.lowering.views import sliced
from trine.backends.cuda.memory_plan import Placement, lifetimes
from trine.backends.cuda.reference_pointwise import activated, pointwise
from trine.backends.cuda.reference_recurrence import recurrence

__all__ = ["NUMPY_TYPES", "Memory", "run_group", "run_groups"]

Array = np.ndarray[Any, Any]

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
    "fp64": np.dtype(np.float64),
    "int16": np.dtype(np.int16),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
}
_FLOATS = frozenset({"fp32", "fp16", "bf16"})
_POISON = 0xFF  # NaN in every floating type


@dataclass
class Memory:
    """The arena's bytes, where buffers lie in it, and the caller's arrays by buffer."""

    offsets: Mapping[Buffer, int]
    arena: Array
    edges: dict[Buffer, Array] = field(default_factory=dict)

    def storage(self, buffer: Buffer) -> Array:
        """The elements of a buffer, 1-D, to read and write."""
        if buffer.kind == "weight":
            assert buffer.data is not None
            return buffer.data.reshape(-1)
        if buffer.kind != "arena":
            return self.edges[buffer]
        start = self.offsets[buffer]
        return self.arena[start : start + buffer.nbytes].view(NUMPY_TYPES[buffer.dtype])

    def window(self, view: View) -> Array:
        """A view's elements where they lie. Raises AssertionError where it leaves its buffer."""
        flat = self.storage(view.buffer)
        reach = [(length - 1) * stride for length, stride in zip(view.shape, view.strides, strict=True)]
        low = view.offset + sum(min(0, each) for each in reach)
        high = view.offset + sum(max(0, each) for each in reach)
        assert view.elements == 0 or (low >= 0 and high < flat.size), f"{view} leaves its buffer of {flat.size}"
        strides = [stride * flat.itemsize for stride in view.strides]
        return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides)

    def read(self, view: View) -> Array:
        """A copy for computing: floats as fp32, others as they are."""
        array = self.window(view)
        return array.astype(np.float32) if view.dtype in _FLOATS else np.array(array)

    def write(self, view: View, array: Array) -> None:
        """Store, rounded to the view's type."""
        assert array.shape == view.shape, f"{array.shape} into {view.shape}"
        with np.errstate(all="ignore"):
            self.window(view)[...] = array.astype(NUMPY_TYPES[view.dtype])


def run_groups(groups: Sequence[Group], placement: Placement, inputs: Mapping[Buffer, Array]) -> dict[Buffer, Array]:
    """Run all groups in order; returns the contents of every output buffer, 1-D, and of every slot as it is.

    What has not been written yet is poison, outputs too, and what is dead is again. Raises AssertionError where a group
    writes outside of every buffer.
    """
    arena = np.full(placement.arena_bytes, _POISON, np.uint8)
    edges = {buffer: np.ascontiguousarray(array).reshape(-1) for buffer, array in inputs.items()}
    written = {view.buffer for group in groups for view in group.written()}
    outputs = {buffer for buffer in written if buffer.kind == "output"}
    for buffer in outputs:
        edges[buffer] = np.full(buffer.nbytes, _POISON, np.uint8).view(NUMPY_TYPES[buffer.dtype])
    memory = Memory(placement.offsets, arena, edges)
    gaps = _gaps(placement)
    dying: dict[int, list[Buffer]] = {}
    for each in lifetimes(groups):
        dying.setdefault(each.last, []).append(each.buffer)
    for index, group in enumerate(groups):
        run_group(group, memory)
        for buffer in dying.get(index, ()):
            memory.storage(buffer).view(np.uint8)[:] = _POISON
    for start, end in gaps:
        assert (arena[start:end] == _POISON).all(), f"bytes {start} to {end} belong to no buffer and were written"
    return {buffer: edges[buffer] for buffer in written if buffer.kind in ("output", "slot")}


def _gaps(placement: Placement) -> list[tuple[int, int]]:
    """Bytes of the arena between buffers: canaries."""
    gaps, end = [], 0
    for start, size in sorted((offset, buffer.nbytes) for buffer, offset in placement.offsets.items()):
        if start > end:
            gaps.append((end, start))
        end = max(end, start + size)
    return [*gaps, (end, placement.arena_bytes)]


def run_group(group: Group, memory: Memory) -> None:
    """Compute one group. Raises TypeError for a kind of group that has no meaning here."""
    for kind, run in _MEANINGS.items():
        if isinstance(group, kind):
            with np.errstate(all="ignore"):
                run(group, memory)
            return
    raise TypeError(f"group {group.name!r} is a {type(group).__name__}; known: {[k.__name__ for k in _MEANINGS]}")


def _before(prologue: Prologue | None, array: Array, view: View, rows_per_image: int, memory: Memory) -> Array:
    """``act(x * scale + shift)`` on (..., C), rounded to x's type."""
    if prologue is None:
        return array
    if prologue.scale is not None:
        scale = memory.read(prologue.scale)
        if scale.ndim == 2:
            lead = array.shape[:-1]
            scale = np.repeat(scale, rows_per_image, axis=0).reshape(*lead, array.shape[-1])
        array = array * scale
    if prologue.shift is not None:
        array = array + memory.read(prologue.shift)
    rounded = activated(prologue.act, array).astype(NUMPY_TYPES[view.dtype])
    return rounded.astype(np.float32)


def _after(epilogue: Epilogue, total: Array, memory: Memory) -> Array:
    if epilogue.bias is not None:
        total = total + memory.read(epilogue.bias)
    total = activated(epilogue.act, total)
    if epilogue.residual is not None:
        total = total + memory.read(epilogue.residual)
    return activated(epilogue.act_after, total)


def _windows(
    x: Array,
    window: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilation: tuple[int, int],
    out: tuple[int, int],
    filling: float = 0.0,
) -> Array:
    """(N, H, W, C) -> (N, P, Q, R, S, C) without a copy of more than the padding."""
    top, left, bottom, right = pads
    # Exactly as much below and on the right as the last windows reach: pooling with ceil_mode asks for more than pads.
    bottom = max(bottom, (out[0] - 1) * stride[0] + dilation[0] * (window[0] - 1) + 1 - x.shape[1] - top)
    right = max(right, (out[1] - 1) * stride[1] + dilation[1] * (window[1] - 1) + 1 - x.shape[2] - left)
    if any((top, left, bottom, right)):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=filling)
    n, h, w, c = x.strides
    shape = (x.shape[0], *out, *window, x.shape[3])
    strides = (n, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1], c)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def _conv(group: Conv, memory: Memory) -> None:
    x = _before(group.prologue, memory.read(group.x), group.x, _pixels(group.x), memory)
    w = memory.read(group.w)
    out, kernel_h, kernel_w, channels = w.shape
    n, high, wide, _ = group.y.shape
    columns = _windows(x, (kernel_h, kernel_w), group.stride, group.pads, group.dilation, (high, wide))
    total = np.empty((n, high, wide, out), np.float32)
    part = out // group.groups
    for each in range(group.groups):
        some = columns[..., each * channels : (each + 1) * channels].reshape(n * high * wide, -1)
        weights = w[each * part : (each + 1) * part].reshape(part, -1)
        total[..., each * part : (each + 1) * part] = (some @ weights.T).reshape(n, high, wide, part)
    memory.write(group.y, _after(group.epilogue, total, memory))


def _conv_gemm(group: ConvGemm, memory: Memory) -> None:
    x, w, b = (memory.read(each) for each in (group.x, group.w, group.b))
    columns = _windows(x, (w.shape[1], w.shape[2]), group.stride, group.pads, group.dilation, group.pixels)
    total = columns.reshape(group.y.shape[0], -1) @ w.reshape(w.shape[0], -1).T
    between = _after(group.between, total, memory).astype(NUMPY_TYPES[group.x.dtype]).astype(np.float32)
    memory.write(group.y, _after(group.epilogue, between @ b.T, memory))


def _pixels(view: View) -> int:
    return view.shape[1] * view.shape[2]


def _depthwise(group: DepthwiseConv, memory: Memory) -> None:
    x, w = memory.read(group.x), memory.read(group.w)
    n, high, wide, channels = group.y.shape
    columns = _windows(x, w.shape[:2], group.stride, group.pads, group.dilation, (high, wide))
    total = np.zeros((n, high, wide, channels), np.float32)
    for row in range(w.shape[0]):
        for column in range(w.shape[1]):
            total += columns[:, :, :, row, column] * w[row, column]
    result = _after(group.epilogue, total, memory)
    memory.write(group.y, result)
    if group.sums is not None:
        tiles = group.sums.shape[1]
        sums = np.zeros(group.sums.shape, np.float32)
        pixels = result.reshape(n, high * wide, channels)
        size = -(-high * wide // tiles)
        for tile in range(tiles):
            sums[:, tile] = pixels[:, tile * size : (tile + 1) * size].sum(axis=1)
        memory.write(group.sums, sums)


def _gemm(group: Gemm, memory: Memory) -> None:
    a = _before(group.prologue, memory.read(group.a), group.a, group.rows_per_image, memory)
    b = memory.read(group.b)
    total = np.matmul(a, np.swapaxes(b, -1, -2))
    if group.normal is not None:
        mean, scale = np.split(memory.read(group.normal.statistics), 2, axis=1)
        total = (total - mean * memory.read(group.normal.sums)) * scale
    memory.write(group.y, _after(group.epilogue, total, memory))


def _pool(group: Pool, memory: Memory) -> None:
    x = memory.read(group.x)
    out = (group.y.shape[1], group.y.shape[2])
    settings = (group.window, group.stride, group.pads, group.dilation, out)
    if group.kind == "max":
        memory.write(group.y, _windows(x, *settings, filling=-math.inf).max(axis=(3, 4)))
        return
    total = _windows(x, *settings).sum(axis=(3, 4), dtype=np.float32)
    if group.count_pads:
        memory.write(group.y, total / np.float32(math.prod(group.window)))
        return
    ones = np.ones((1, *x.shape[1:3], 1), np.float32)
    memory.write(group.y, total / _windows(ones, *settings).sum(axis=(3, 4)))


_REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda x: x.mean(axis=1, dtype=np.float32),
    "sum": lambda x: x.sum(axis=1, dtype=np.float32),
    "max": lambda x: x.max(axis=1),
    "min": lambda x: x.min(axis=1),
    "prod": lambda x: x.prod(axis=1, dtype=np.float32),
    "l2": lambda x: np.sqrt(np.square(x).sum(axis=1, dtype=np.float32)),
    "sumsq": lambda x: np.square(x).sum(axis=1, dtype=np.float32),
}


def _reduce(group: Reduce, memory: Memory) -> None:
    memory.write(group.y, activated(group.act, _REDUCTIONS[group.kind](memory.read(group.x))))


def _layer_norm(group: LayerNorm, memory: Memory) -> None:
    x = memory.read(group.x)
    if group.residual is not None:
        x = x + memory.read(group.residual)
    if group.total is not None:
        memory.write(group.total, x)
    if not group.rms:
        x = x - x.mean(axis=1, keepdims=True, dtype=np.float32)
    x = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True, dtype=np.float32) + np.float32(group.epsilon))
    if group.scale is not None:
        x = x * memory.read(group.scale)
    if group.bias is not None:
        x = x + memory.read(group.bias)
    memory.write(group.y, x)


def _row_statistics(group: RowStatistics, memory: Memory) -> None:
    x = memory.read(group.x)
    mean = x.mean(axis=1, keepdims=True, dtype=np.float32)
    variance = np.square(x - mean).mean(axis=1, keepdims=True, dtype=np.float32)
    memory.write(group.y, np.concatenate([mean, 1 / np.sqrt(variance + np.float32(group.epsilon))], axis=1))


def _softmax(group: Softmax, memory: Memory) -> None:
    x = memory.read(group.x) * np.float32(group.scale)
    x = x - x.max(axis=1, keepdims=True)
    total = np.exp(x).sum(axis=1, keepdims=True)
    memory.write(group.y, x - np.log(total) if group.log else np.exp(x) / total)


def _attention(group: Attention, memory: Memory) -> None:
    q, k, v = (memory.read(view) for view in (group.q, group.k, group.v))
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * np.float32(group.scale)
    if group.bias is not None:
        bias = memory.read(group.bias)
        scores = scores + np.tile(bias, (scores.shape[0] // bias.shape[0], 1, 1, 1))
    if group.causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    total = scores.sum(axis=-1, keepdims=True)
    # Kernels multiply the rounded weights by v, and divide by their sum at the end.
    rounded = scores.astype(NUMPY_TYPES[group.v.dtype]).astype(np.float32)
    memory.write(group.y, np.matmul(rounded, v) / total)


def _recurrence(group: Recurrence, memory: Memory) -> None:
    bias, h0, c0 = (None if view is None else memory.read(view) for view in (group.bias, group.h0, group.c0))
    rounded = NUMPY_TYPES[group.r.dtype]
    steps, high, wide, *rest = group.gates.shape
    gates = memory.read(group.gates).reshape(steps, high * wide, *rest)
    every, last_h, last_c = recurrence(group, gates, memory.read(group.r), bias, h0, c0, rounded)
    memory.write(group.y, (every if steps == group.y.shape[0] else last_h).reshape(group.y.shape))
    if group.last_h is not None:
        memory.write(group.last_h, last_h)
    if group.last_c is not None:
        memory.write(group.last_c, last_c)


def _squeeze_excite(group: SqueezeExcite, memory: Memory) -> None:
    mean = memory.read(group.sums).sum(axis=1, dtype=np.float32) * np.float32(group.factor)
    for weights, bias, act in ((group.w1, group.b1, group.act1), (group.w2, group.b2, group.act2)):
        mean = mean @ memory.read(weights).T
        mean = activated(act, mean if bias is None else mean + memory.read(bias))
    memory.write(group.y, mean)


def _gather_rows(group: GatherRows, memory: Memory) -> None:
    x, index = memory.read(group.x), memory.read(group.index)
    result = np.where((index >= 0)[None, :, None], x[:, np.maximum(index, 0)], np.float32(0))
    memory.write(group.y, result if group.residual is None else result + memory.read(group.residual))


def _pointwise(group: Pointwise, memory: Memory) -> None:
    arrays = [memory.read(view) for view in group.inputs]
    result = pointwise(group.expr, arrays)
    memory.write(group.y, np.broadcast_to(result, group.y.shape))
    if group.zero_after:
        after = sliced(group.y, len(group.y.shape) - 1, group.y.shape[-1], group.zero_after)
        memory.write(after, np.zeros(after.shape))


def _on_cpu(group: CpuGroup, memory: Memory) -> None:
    def given(view: View) -> Array:
        return memory.edges[view.buffer] if view.buffer.kind == "slot" else memory.window(view).copy()

    results = run_part(group.part, [given(view) for view in group.inputs])
    for view, result in zip(group.outputs, results, strict=True):
        if view.buffer.kind == "slot":
            memory.edges[view.buffer] = result
        else:
            if result.shape != view.shape:
                raise RuntimeError(f"{group.name} gave the shape {result.shape}; the graph says {view.shape}")
            memory.window(view)[...] = result


_MEANINGS: dict[type[Group], Callable[[Any, Memory], None]] = {
    Conv: _conv,
    ConvGemm: _conv_gemm,
    DepthwiseConv: _depthwise,
    Gemm: _gemm,
    Pool: _pool,
    Reduce: _reduce,
    LayerNorm: _layer_norm,
    RowStatistics: _row_statistics,
    Softmax: _softmax,
    Attention: _attention,
    Recurrence: _recurrence,
    SqueezeExcite: _squeeze_excite,
    GatherRows: _gather_rows,
    Pointwise: _pointwise,
    CpuGroup: _on_cpu,
}
