"""Activations of groups.Activation as a Triton function that every kernel calls on its fp32 numbers."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["activate", "sigmoid", "tanh"]


@triton.jit
def sigmoid(x):
    """Right for large |x| too: exp(-x) is then 0 or infinity."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """Through exp, and near 0, where 1 - 2 / (...) would cancel, through three terms of the series."""
    far = 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)
    square = x * x
    near = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))))
    return tl.where(tl.abs(x) < 0.15, near, far)


@triton.jit
def activate(x, NAME: tl.constexpr, A: tl.constexpr, B: tl.constexpr):  # noqa: N803 - constants are capitals
    """groups.Activation ``NAME`` with its ``a`` and ``b`` of fp32 numbers of any shape. NaN stays NaN."""
    if NAME == "none":
        y = x
    elif NAME == "relu":
        y = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif NAME == "clip":
        y = tl.maximum(x, A, propagate_nan=tl.PropagateNan.ALL)
        y = tl.minimum(y, B, propagate_nan=tl.PropagateNan.ALL)
    elif NAME == "leaky_relu":
        y = tl.where(x < 0.0, x * A, x)
    elif NAME == "elu":
        # exp(x) - 1 cancels near 0, where the series is exact enough.
        low = tl.minimum(x, 0.0)
        near = low * (1.0 + low * (0.5 + low * (1.0 / 6.0 + low * (1.0 / 24.0))))
        y = tl.where(x < 0.0, A * tl.where(low > -0.03, near, tl.exp(low) - 1.0), x)
    elif NAME == "sigmoid":
        y = sigmoid(x)
    elif NAME == "silu":
        y = x * sigmoid(x)
    elif NAME == "hardsigmoid":
        y = tl.maximum(x * A + B, 0.0, propagate_nan=tl.PropagateNan.ALL)
        y = tl.minimum(y, 1.0, propagate_nan=tl.PropagateNan.ALL)
    elif NAME == "hardswish":
        gate = tl.maximum(x + 3.0, 0.0, propagate_nan=tl.PropagateNan.ALL)
        y = x * tl.minimum(gate, 6.0, propagate_nan=tl.PropagateNan.ALL) * (1.0 / 6.0)
    elif NAME == "tanh":
        y = tanh(x)
    elif NAME == "gelu":
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif NAME == "gelu_tanh":
        y = x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif NAME == "mish":
        # tanh(log(1 + e)) = n / (n + 2) with n = e * (e + 2); it is 1 in fp32 from x = 20 on.
        e = tl.exp(tl.minimum(x, 20.0))
        n = e * (e + 2.0)
        y = x * (n / (n + 2.0))
    else:
        tl.static_assert(False, "unknown activation")
        y = x
    return y
