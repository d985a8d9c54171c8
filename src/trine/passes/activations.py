"""Activation functions, and the value of spelled-out ones at sample points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trine.passes.rewriting import is_op, scalar

__all__ = ["ACTIVATIONS", "NONLINEAR", "POINTS", "TOLERANCES", "Activation", "evaluate", "is_evaluable"]


@dataclass(frozen=True)
class Activation:
    """A function, the operator that computes it, and the opset that brought it."""

    op_type: str
    since: int
    function: Callable[[np.ndarray], np.ndarray]
    nodes: int = 0  # so many nodes or fewer are the wanted form itself
    attributes: tuple[tuple[str, str], ...] = ()


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _hard_sigmoid(x: np.ndarray, alpha: float = 1 / 6, beta: float = 0.5) -> np.ndarray:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))))


ACTIVATIONS = (
    Activation("SiLU", 7, lambda x: x * _sigmoid(x), nodes=2),
    Activation("HardSwish", 14, lambda x: x * _hard_sigmoid(x)),
    Activation("Gelu", 20, lambda x: 0.5 * x * (1.0 + _erf(x / np.sqrt(2.0)))),
    Activation("Gelu", 20, _gelu_tanh, attributes=(("approximate", "tanh"),)),
)
# Points where the functions differ from one another by more than the tolerances: erf and tanh GELU by 4.7e-4.
POINTS = np.concatenate([np.linspace(-12.0, 12.0, 241), np.array([-3.0, 0.0, 3.0, -0.77, 2.25, 0.013])])
# What rounding an activation's constants to its type can change at these points.
TOLERANCES = {ir.DataType.FLOAT: 2e-6, ir.DataType.FLOAT16: 1e-4}
NONLINEAR = frozenset({"Exp", "Tanh", "Sigmoid", "Erf", "Relu", "Min", "Max", "Clip", "HardSigmoid"})

# The operators that spelled-out activations are made of, in float64.
_EVALUATE: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Neg": np.negative,
    "Exp": np.exp,
    "Tanh": np.tanh,
    "Reciprocal": np.reciprocal,
    "Sigmoid": _sigmoid,
    "Erf": _erf,
    "Relu": lambda x: np.maximum(x, 0.0),
    "Min": lambda *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Max": lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
}


def is_evaluable(node: ir.Node) -> bool:
    """Whether ``evaluate`` knows the operator."""
    return is_op(node, "Clip", "HardSigmoid", *_EVALUATE)


def evaluate(root: ir.Node, source: ir.Value) -> np.ndarray | None:
    """The value of ``root`` where ``source`` has the values of ``POINTS``; None if one is not finite.

    Everything between them is evaluable and depends on numbers and ``source`` alone.
    """
    known: dict[ir.Value, np.ndarray] = {source: POINTS}

    def value_of(value: ir.Value) -> np.ndarray:
        if value not in known:
            number, producer = scalar(value), value.producer()
            if number is not None:
                known[value] = np.array(number)
            else:
                assert producer is not None
                known[value] = _result(producer, [each if each is None else value_of(each) for each in producer.inputs])
        return known[value]

    with np.errstate(all="ignore"):
        result = _result(root, [each if each is None else value_of(each) for each in root.inputs])
    return result if result.shape == POINTS.shape and np.all(np.isfinite(result)) else None


def _result(node: ir.Node, given: list[np.ndarray | None]) -> np.ndarray:
    first = given[0]
    assert first is not None
    if node.op_type == "Clip":  # limits are attributes before opset 11, optional inputs since
        limits = [*given[1:], None, None]
        low = node.attributes.get_float("min", -math.inf) if limits[0] is None else limits[0]
        high = node.attributes.get_float("max", math.inf) if limits[1] is None else limits[1]
        return np.asarray(np.minimum(np.maximum(first, low), high))
    if node.op_type == "HardSigmoid":
        return _hard_sigmoid(first, node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5))
    return np.asarray(_EVALUATE[node.op_type](*given))
