"""The meaning of activations and pointwise expressions, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trine.backends.cuda.groups import Activation, Expr

__all__ = ["activated", "erf", "pointwise"]

Array = np.ndarray[Any, Any]
_CASTS = {
    "fp32": np.float32,
    "fp16": np.float32,  # storage types round when stored; an expression computes in fp32
    "bf16": np.float32,
    "int64": np.int64,
    "int32": np.int32,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}


def erf(x: Array) -> Array:
    """Abramowitz and Stegun 7.1.26 is too coarse for fp32: a table of math.erf, interpolated by its derivatives.

    Third order on steps of 1/64, an error below 1e-9.
    """
    clipped = np.clip(np.nan_to_num(x.astype(np.float64)), -6.0, 6.0)
    nearest = np.round(clipped * 64)
    at = _ERF[(nearest + 384).astype(np.int64)]
    base = nearest / 64
    step = clipped - base
    slope = 2 / math.sqrt(math.pi) * np.exp(-base * base)
    value = at + slope * step * (1 - base * step + (2 * base * base - 1) * step * step / 3)
    return np.where(np.isnan(x), np.nan, value).astype(np.float32)


_ERF = np.array([math.erf(index / 64) for index in range(-384, 385)])


def _sigmoid(x: Array) -> Array:
    return np.float32(1) / (np.float32(1) + np.exp(-x))


_ACTIVATIONS: dict[str, Callable[[Array, Any, Any], Array]] = {
    "none": lambda x, a, b: x,
    "relu": lambda x, a, b: np.maximum(x, 0),
    "clip": lambda x, a, b: np.minimum(np.maximum(x, a), b),
    "leaky_relu": lambda x, a, b: np.where(x < 0, x * a, x),
    "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
    "silu": lambda x, a, b: x * _sigmoid(x),
    "hardswish": lambda x, a, b: x * np.clip(x / np.float32(6) + np.float32(0.5), 0, 1),
    "hardsigmoid": lambda x, a, b: np.clip(x * a + b, 0, 1),
    "sigmoid": lambda x, a, b: _sigmoid(x),
    "tanh": lambda x, a, b: np.tanh(x),
    "gelu": lambda x, a, b: np.float32(0.5) * x * (np.float32(1) + erf(x * np.float32(math.sqrt(0.5)))),
    "gelu_tanh": lambda x, a, b: (
        np.float32(0.5) * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)))
    ),
    "mish": lambda x, a, b: x * np.tanh(np.logaddexp(np.float32(0), x)),
}


def activated(activation: Activation, x: Array) -> Array:
    """An activation of fp32 numbers."""
    return _ACTIVATIONS[activation.name](x, np.float32(activation.a), np.float32(activation.b))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "mod": np.mod,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: np.float32(1) / np.sqrt(x),
    "reciprocal": lambda x: np.float32(1) / x,
    "exp": np.exp,
    "log": np.log,
    "erf": erf,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "sign": np.sign,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "not": np.logical_not,
    "and": np.logical_and,
    "or": np.logical_or,
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "where": np.where,
    "isnan": np.isnan,
}


def pointwise(expr: Expr, inputs: Sequence[Array]) -> Array:
    """The value of an expression; a constant takes the type of what it meets, fp32 among floats."""
    if expr.op == "input":
        return inputs[expr.index]
    if expr.op == "constant":
        return np.asarray(np.float32(expr.value) if isinstance(expr.value, float) else expr.value)
    arguments = [pointwise(each, inputs) for each in expr.args]
    if expr.op == "act":
        return activated(expr.activation, arguments[0])
    if expr.op == "cast":
        return arguments[0].astype(_CASTS[expr.dtype])
    if expr.op == "div" and all(argument.dtype.kind in "iu" for argument in arguments):
        return np.trunc(np.divide(*arguments)).astype(arguments[0].dtype)
    kinds = {argument.dtype.kind for argument in arguments}
    if "f" in kinds:
        # A Python integer meets floats as fp32, not as NumPy's int64, which would make fp64 of both.
        arguments = [each.astype(np.float32) if each.dtype.kind in "iu" else each for each in arguments]
    result: Array = np.asarray(_FUNCTIONS[expr.op](*arguments))
    return result.astype(np.float32) if result.dtype == np.float64 else result
