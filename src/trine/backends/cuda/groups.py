"""Groups: what the CUDA backend computes, after fusion and before a kernel is chosen.

A group is one anchor (convolution, product, pooling, ...) with the pointwise work around it. It names its operands as
views: a buffer, a shape, strides. Images are channels-last: (N, H, W, C). Nothing here knows of kernels; the meaning of
each group is written once, in NumPy, in ``reference.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

__all__ = [
    "ITEM_BYTES",
    "NO_ACTIVATION",
    "Activation",
    "Attention",
    "Buffer",
    "Conv",
    "ConvGemm",
    "DepthwiseConv",
    "Epilogue",
    "Expr",
    "GatherRows",
    "Gemm",
    "Group",
    "LayerNorm",
    "Normal",
    "Pointwise",
    "Pool",
    "Prologue",
    "Recurrence",
    "Reduce",
    "RowStatistics",
    "Softmax",
    "SqueezeExcite",
    "View",
    "contiguous_strides",
]

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int64": 8, "int32": 4, "int8": 1, "uint8": 1, "bool": 1}
# Kernels have none of these: the caller's arrays of these types go to the CPU, and come from there.
ITEM_BYTES |= {"fp64": 8, "int16": 2, "uint16": 2, "uint32": 4, "uint64": 8}


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory for one tensor. Compared by identity.

    kind: "arena" (activations), "weight" (``data`` holds its elements), "input" and "output" (the caller's), "slot"
    (what the CPU keeps for later, see CpuGroup).
    """

    name: str
    kind: str
    dtype: str
    elements: int
    data: np.ndarray[Any, Any] | None = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.elements * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class View:
    """Part of a buffer as a tensor; strides and offset count elements. A stride of 0 repeats."""

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def dtype(self) -> str:
        """The buffer's element type."""
        return self.buffer.dtype

    @property
    def elements(self) -> int:
        """How many elements the shape has."""
        return math.prod(self.shape)

    @property
    def reach(self) -> int:
        """How many elements of the buffer lie from its first to its last."""
        return 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one after another in the order of the axes (axes of length 1 do not count)."""
        wanted = contiguous_strides(self.shape)
        return all(s == w for n, s, w in zip(self.shape, self.strides, wanted, strict=True) if n != 1)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Activation:
    """A function of one number. ``name``: none, relu, clip(a, b), leaky_relu(a), elu(a), silu, hardswish,
    hardsigmoid (x * a + b, clipped to 0..1), sigmoid, tanh, gelu (erf), gelu_tanh, mish."""

    name: str = "none"
    a: float = 0.0
    b: float = 0.0


NO_ACTIVATION = Activation()


@dataclass(frozen=True)
class Prologue:
    """What happens to the left operand before the product: ``act(x * scale + shift)``, in fp32, rounded to x's dtype.

    scale: (C,), or (N, C) for a scale of each image and channel; shift: (C,).
    """

    scale: View | None = None
    shift: View | None = None
    act: Activation = NO_ACTIVATION


@dataclass(frozen=True)
class Epilogue:
    """What happens to the sum: ``act_after(act(sum + bias) + residual)``, in fp32. residual has the output's shape."""

    bias: View | None = None
    act: Activation = NO_ACTIVATION
    residual: View | None = None
    act_after: Activation = NO_ACTIVATION


@dataclass(frozen=True)
class Normal:
    """What makes of sums over x those over LayerNorm(x): ``rstd[m] * (sum - mean[m] * sums[n])``, before the epilogue.

    statistics: (M, 2) fp32, as RowStatistics writes them; sums: (N,) fp32, of each row of the right operand.
    """

    statistics: View
    sums: View


@dataclass(frozen=True, kw_only=True)
class Group:
    """Base of all groups. ``y`` is the output; ``name`` the ONNX nodes that it came from, for people."""

    name: str
    y: View

    def views(self) -> list[View]:
        """Every view that is read."""
        return [view for view in _views(self) if view is not self.y and view not in self.written()]

    def written(self) -> list[View]:
        """Every view that is written."""
        return [self.y]


@dataclass(frozen=True, kw_only=True)
class Conv(Group):
    """2-D convolution, (N, H, W, C) * (K, R, S, C / groups) -> (N, P, Q, K).

    pads: top, left, bottom, right. C is contiguous in x, K in y.
    """

    x: View
    w: View
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    prologue: Prologue | None = None
    epilogue: Epilogue = Epilogue()


@dataclass(frozen=True, kw_only=True)
class ConvGemm(Group):
    """A convolution and the product that its pixels go into: ``y = epilogue(between(conv(x, w)) @ b.T)``.

    (N, H, W, C) * (K, R, S, C) -> K channels of ``pixels`` = (P, Q) in each image, rounded to x's dtype and never
    stored; b (M, K); y (N * P * Q, M). ``between`` has no residual.
    """

    x: View
    w: View
    pixels: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    between: Epilogue = Epilogue()
    b: View
    epilogue: Epilogue = Epilogue()


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv(Group):
    """Convolution with one filter for each channel: (N, H, W, C) * (R, S, C) -> (N, P, Q, C).

    sums: where given, (N, T, C) fp32: sums of the finished output (after rounding to its dtype is not required) over
    tiles of pixels, T chosen by the lowering as ``math.ceil(P * Q / 256)`` or whatever the tactic's ``sum_tiles`` says;
    their total over T is the sum over all pixels.
    """

    x: View
    w: View
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    epilogue: Epilogue = Epilogue()
    sums: View | None = None

    def written(self) -> list[View]:
        """See Group."""
        return [self.y] if self.sums is None else [self.y, self.sums]


@dataclass(frozen=True, kw_only=True)
class Gemm(Group):
    """``y = epilogue(normal(prologue(a) @ b.T))``: a (..., M, K), b (..., N, K), y (..., M, N), zero to two batch axes.

    K is contiguous in a. Either K or N is contiguous in b. Prologue scales of shape (images, K) belong to
    ``rows_per_image`` consecutive rows each. A residual or bias as in Epilogue, bias (N,). ``normal``: without batch
    axes or a prologue only.
    """

    a: View
    b: View
    rows_per_image: int = 1
    prologue: Prologue | None = None
    normal: Normal | None = None
    epilogue: Epilogue = Epilogue()


@dataclass(frozen=True, kw_only=True)
class Pool(Group):
    """Max or average pooling of (N, H, W, C). ``count_pads``: whether an average counts padding."""

    x: View
    kind: str  # "max" or "avg"
    window: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int] = (1, 1)
    count_pads: bool = False


@dataclass(frozen=True, kw_only=True)
class Reduce(Group):
    """Reduce the middle axis of x (outer, reduced, inner) to y (outer, inner). ``kind``: mean, sum, max, min, prod,
    l2 (square root of the sum of squares), sumsq. Accumulates in fp32."""

    x: View
    kind: str
    act: Activation = NO_ACTIVATION


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Group):
    """Over the last axis of x (rows, n): ``(x - mean) / sqrt(var + epsilon) * scale + bias``; rms: without the mean.

    ``residual``: added to x first; where ``total`` is given too, the sum is written there.
    """

    x: View
    scale: View | None
    bias: View | None
    epsilon: float
    rms: bool = False
    residual: View | None = None
    total: View | None = None

    def written(self) -> list[View]:
        """See Group."""
        return [self.y] if self.total is None else [self.y, self.total]


@dataclass(frozen=True, kw_only=True)
class RowStatistics(Group):
    """What LayerNorm needs to know of each row of x (rows, n): y (rows, 2) fp32, the mean and
    ``1 / sqrt(var + epsilon)``."""

    x: View
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class Softmax(Group):
    """Over the last axis of x (rows, n), of ``x * scale``."""

    x: View
    scale: float = 1.0
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Attention(Group):
    """``softmax(q @ k.T * scale + bias) @ v``: q (B, H, S, D), k (B, H, T, D), v (B, H, T, E), y (B, H, S, E).

    The last axis of each is contiguous; bias has the shape (B, H, S, T), with strides of 0 where it repeats; or
    (P, H, S, T), where P divides B and entry b takes the bias ``b % P``: windows of an image, for all images.
    """

    q: View
    k: View
    v: View
    scale: float
    bias: View | None = None
    causal: bool = False


@dataclass(frozen=True, kw_only=True)
class Recurrence(Group):
    """An LSTM, GRU or plain RNN over what its inputs add to the gates: for every step t of a direction, in its order,
    with x = gates[t] and ``p[g] = h @ r[g].T``, h rounded to r's dtype for products only, all else in fp32:

    - lstm, the gates i, o, f, n: ``c = sigmoid(x[f] + p[f]) * c + sigmoid(x[i] + p[i]) * tanh(x[n] + p[n])``,
      ``h = sigmoid(x[o] + p[o]) * tanh(c)``
    - gru, the gates z, s, n: ``z = sigmoid(x[z] + p[z])``, ``s = sigmoid(x[s] + p[s])``, ``h = (1 - z) * n + z * h``
      with ``n = tanh(x[n] + (s * h) @ r[n].T)``, or ``n = tanh(x[n] + s * (p[n] + bias))`` where ``reset_after``
    - rnn, one gate: ``h = tanh(x + p)``

    Rows are on two axes, rows = P * Q, as those of an image's columns have no single stride. gates (T, P, Q, D, G, H)
    for D directions, r (D, G, H, H); y (T, D, P, Q, H), the h of every step, or (1, D, P, Q, H), that of the last one
    only. bias (D, H) fp32, or None for 0. ``backward``: the last direction goes from T - 1 to 0. h0, c0 (D, rows, H):
    what h and c start as, None for 0. last_h, last_c (D, rows, H): where given, what they end as.
    """

    kind: str
    gates: View
    r: View
    bias: View | None = None
    reset_after: bool = False
    backward: bool = False
    h0: View | None = None
    c0: View | None = None
    last_h: View | None = None
    last_c: View | None = None

    def written(self) -> list[View]:
        """See Group."""
        return [view for view in (self.y, self.last_h, self.last_c) if view is not None]


@dataclass(frozen=True, kw_only=True)
class SqueezeExcite(Group):
    """``y = act2(act1(mean @ w1.T + b1) @ w2.T + b2)``; ``sums`` (N, T, C) fp32, whose total over T times ``factor`` is
    the mean; w1 (S, C), w2 (C, S); y (N, C)."""

    sums: View
    factor: float
    w1: View
    b1: View | None
    w2: View
    b2: View | None
    act1: Activation
    act2: Activation


@dataclass(frozen=True, kw_only=True)
class GatherRows(Group):
    """``y[n, i] = x[n, index[i]] + residual[n, i]``: x (N, T, C), index (I,) int32, y and residual (N, I, C), C
    contiguous in all. Where the index is -1, x counts as 0. Windows of images that are rolled and padded first."""

    x: View
    index: View
    residual: View | None = None


@dataclass(frozen=True)
class Expr:
    """A pointwise expression. ``op``: "input" (``index``), "constant" (``value``), "cast" (``dtype``), "act"
    (``activation``), or a function of ``args``: add sub mul div pow min max mod neg abs sqrt rsqrt reciprocal exp log
    erf sin cos floor ceil round sign sigmoid tanh not and or eq lt le gt ge where isnan."""

    op: str
    args: tuple[Expr, ...] = ()
    index: int = 0
    value: float | int | bool = 0
    dtype: str = ""
    activation: Activation = NO_ACTIVATION


@dataclass(frozen=True, kw_only=True)
class Pointwise(Group):
    """``y[i] = expr(inputs[0][i], inputs[1][i], ...)``: every input view has y's shape. Floating point is computed in
    fp32 and rounded once, when stored. A copy is the expression that is its only input.

    ``by_rows``: axis 0 counts the caller's rows: of an input's or output's rows beyond the call's, nothing is touched.
    ``zero_after``: so many elements after each run of y's last axis (stride 1) are padding and become 0, as the fourth
    channel of a network's input does.
    """

    inputs: tuple[View, ...]
    expr: Expr
    by_rows: bool = False
    zero_after: int = 0


def _views(node: Any) -> list[View]:
    """All views below a dataclass, in the order of its fields."""
    if isinstance(node, View):
        return [node]
    if isinstance(node, tuple):
        return [view for item in node for view in _views(item)]
    if isinstance(node, Group | Prologue | Normal | Epilogue):
        return [view for each in fields(node) for view in _views(getattr(node, each.name))]
    return []


def with_views(group: Any, change: Any) -> Any:
    """``group`` with ``change(view)`` in place of every view."""
    if isinstance(group, View):
        return change(group)
    if isinstance(group, tuple):
        return tuple(with_views(item, change) for item in group)
    if isinstance(group, Group | Prologue | Normal | Epilogue):
        return replace(group, **{each.name: with_views(getattr(group, each.name), change) for each in fields(group)})
    return group
