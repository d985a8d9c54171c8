"""What the steps of a Recurrence compute, for the reference device."""

from __future__ import annotations

from typing import Any

import numpy as np

from trine.backends.cuda.groups import Activation, Recurrence
from trine.backends.cuda.reference_pointwise import activated

__all__ = ["recurrence"]

Array = np.ndarray[Any, Any]


def recurrence(
    group: Recurrence, gates: Array, r: Array, bias: Array | None, h0: Array | None, c0: Array | None, rounded: Any
) -> tuple[Array, Array, Array]:
    """h of every step (T, D, rows, H), and the last h and c (D, rows, H), in fp32. Operands as in the group, in fp32,
    with the rows on one axis.

    rounded: the type that h is rounded to before products. Of kinds without a c, it is c0.
    """
    steps, rows, directions, _, size = gates.shape
    bias = np.zeros((directions, size), np.float32) if bias is None else bias
    zero = np.zeros((directions, rows, size), np.float32)
    h0, c0 = zero if h0 is None else h0, zero if c0 is None else c0
    every = np.empty((steps, directions, rows, size), np.float32)
    last_h, last_c = np.empty_like(zero), np.empty_like(zero)
    for each in range(directions):
        h, c = h0[each], c0[each]
        backward = group.backward and each == directions - 1
        for step in reversed(range(steps)) if backward else range(steps):
            h, c = _next(group, gates[step, :, each], r[each], bias[each], h, c, rounded)
            every[step, each] = h
        last_h[each], last_c[each] = h, c
    return every, last_h, last_c


def _next(group: Recurrence, x: Array, r: Array, bias: Array, h: Array, c: Array, rounded: Any) -> tuple[Array, Array]:
    """One step of one direction: x (rows, G, H), r (G, H, H), h and c (rows, H)."""

    def product(state: Array, gate: int) -> Array:
        made: Array = state.astype(rounded).astype(np.float32) @ r[gate].T
        return made

    if group.kind == "lstm":
        i, o, f, n = (x[:, gate] + product(h, gate) for gate in range(4))
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(n)
        return _sigmoid(o) * np.tanh(c), c
    if group.kind == "gru":
        z, s = (_sigmoid(x[:, gate] + product(h, gate)) for gate in range(2))
        n = np.tanh(x[:, 2] + (s * (product(h, 2) + bias) if group.reset_after else product(s * h, 2)))
        return (1 - z) * n + z * h, c
    assert group.kind == "rnn", group.kind
    return np.tanh(x[:, 0] + product(h, 0)), c


def _sigmoid(value: Array) -> Array:
    return activated(Activation("sigmoid"), value)
