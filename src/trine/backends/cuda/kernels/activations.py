"""Activations of groups.Activation as a Triton function that every kernel calls on its fp32 numbers.

Where a result is rounded to 16 bits, ``short_name`` gives silu and gelu a form whose error is below that rounding:
erf of a product's results can take longer than the product.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["activate", "short_name", "sigmoid", "tanh"]

_SHORT = {"silu": "short_silu", "gelu": "short_gelu"}


def short_name(name: str, dtype: str) -> str:
    """What ``activate`` calls the activation ``name`` for results of ``dtype``."""
    return _SHORT.get(name, name) if dtype in ("fp16", "bf16") else name


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
def short_tanh(x):
    """One instruction, with a relative error of at most 2**-11 (PTX ISA, tanh.approx.f32), as rounding to fp16 has."""
    return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


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
        # Saturation comes with the addition; it makes 0 of NaN, and the product NaN again.
        y = x * tl.minimum(tl.maximum(x * (1.0 / 6.0) + 0.5, 0.0), 1.0)
    elif NAME == "tanh":
        y = tanh(x)
    elif NAME == "gelu":
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif NAME == "short_silu":
        half = 0.5 * x
        y = half * short_tanh(half) + half
    elif NAME == "short_gelu":
        # erf(x / sqrt(2)) as tanh(x * p(x * x)), p fitted for the least error of y, 2.5e-5. From |x| = 4 on tanh is 1.
        square = tl.minimum(x * x, 16.0)
        half = 0.5 * x
        y = half * short_tanh(x * (0.79750747 + square * (0.03700602 - square * 0.00035157797))) + half
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
