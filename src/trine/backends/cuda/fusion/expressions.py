"""Taking pointwise expressions apart, and putting them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from trine.backends.cuda.groups import NO_ACTIVATION, Activation, Expr

__all__ = [
    "activation_of",
    "inputs_of",
    "operation_count",
    "renumbered",
    "simplified",
    "substituted",
    "with_activation",
]

_GATED = {
    Activation("sigmoid"): "silu",
    Activation("hardsigmoid", float(np.float32(1 / 6)), 0.5): "hardswish",
    Activation("hardsigmoid", 1 / 6, 0.5): "hardswish",
}
_NAMES = {"sigmoid": Activation("sigmoid"), "tanh": Activation("tanh")}


def inputs_of(expr: Expr) -> set[int]:
    """Which inputs an expression reads."""
    if expr.op == "input":
        return {expr.index}
    return {index for each in expr.args for index in inputs_of(each)}


def substituted(expr: Expr, change: Callable[[int], Expr]) -> Expr:
    """The expression with ``change(index)`` in place of every input."""
    if expr.op == "input":
        return change(expr.index)
    if not expr.args:
        return expr
    return replace(expr, args=tuple(substituted(each, change) for each in expr.args))


def renumbered(expr: Expr, numbers: Mapping[int, int]) -> Expr:
    """The expression with other numbers for its inputs."""
    return substituted(expr, lambda index: Expr("input", index=numbers[index]))


def operation_count(expr: Expr) -> int:
    """How many nodes the expression has."""
    return 1 + sum(operation_count(each) for each in expr.args)


def activation_of(expr: Expr) -> Activation | None:
    """The activation that an expression of one argument is, if it is one."""
    if expr.op == "act":
        return expr.activation
    return _NAMES.get(expr.op)


def simplified(expr: Expr) -> Expr:
    """Products of a value with its own gate as the activations that they are."""
    if not expr.args:
        return expr
    expr = replace(expr, args=tuple(simplified(each) for each in expr.args))
    if expr.op == "mul":
        for inner, gate in (expr.args, expr.args[::-1]):
            name = _GATED.get(activation_of(gate) or NO_ACTIVATION)
            if name is not None and gate.args[0] == inner:
                return Expr("act", (inner,), activation=Activation(name))
    return expr


def with_activation(first: Activation, second: Activation) -> Activation | None:
    """One activation for two in a row; None where that needs both."""
    if first == NO_ACTIVATION:
        return second
    if second == NO_ACTIVATION or (first == second and first.name in ("relu", "clip")):
        return first
    return None
