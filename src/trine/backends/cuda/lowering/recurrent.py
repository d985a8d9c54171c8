"""LSTM, GRU and RNN: a product for what the inputs of all steps add to the gates, and a recurrence over the steps."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Epilogue, Recurrence, View
from trine.backends.cuda.lowering.products import product
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.static_graph import Array
from trine.backends.cuda.lowering.views import memory_order, reshaped

__all__ = ["lower_recurrent"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def lower_recurrent(lowering: Lowering, node: ir.Node) -> list[View]:
    """All three operators with their usual activations, constant weights, and rows that are equally long.

    y lies as the rows and steps of x do, with a step's directions side by side: what PyTorch's layers return is a view
    of it.
    """
    x = lowering.view(node, 0)
    w, r = (_weight(lowering, node, position) for position in (1, 2))
    directions, _, size = r.shape
    steps, rows, _ = x.shape
    _check(lowering, node, directions, steps)
    gates = _GATES[node.op_type]
    reset_after = node.op_type == "GRU" and bool(node.attributes.get_int("linear_before_reset", 0))
    given = lowering.constant(node, 3)
    bias, inner = (None, None) if given is None else _biases(given, gates, reset_after)
    name = value_name(node, 3)
    weight = lowering.weight(w.reshape(-1, w.shape[2]), value_name(node, 1))
    epilogue = Epilogue() if bias is None else Epilogue(lowering.weight(bias, name, "fp32"))
    added = product(lowering, x, weight, epilogue)
    x_gates = reshaped(added, (steps, rows, directions, gates, size))
    matrices = reshaped(lowering.weight(r, value_name(node, 2)), (directions, gates, size, size))
    assert x_gates is not None
    assert matrices is not None
    wanted = [_wanted(node, position) for position in range(3)]
    rows_first = memory_order(added).index(1) < memory_order(added).index(0)
    order = (2, 0, 1, 3) if rows_first else (0, 2, 1, 3)
    y = lowering.new((steps if wanted[0] else 1, directions, rows, size), order=order)
    wanted[1] = wanted[1] and wanted[0]  # else y is that
    last_h, last_c = (lowering.new((directions, rows, size), order=(1, 0, 2)) if each else None for each in wanted[1:])
    lowering.emit(
        Recurrence(
            name=lowering.name,
            y=y,
            kind=node.op_type.lower(),
            gates=x_gates,
            r=matrices,
            bias=None if inner is None else lowering.weight(inner, f"{name} of the products", "fp32"),
            reset_after=reset_after,
            backward=_direction(node) != "forward",
            h0=_start(lowering, node, 5),
            c0=_start(lowering, node, 6) if node.op_type == "LSTM" else None,
            last_h=last_h,
            last_c=last_c,
        )
    )
    only = View(y.buffer, y.shape[1:], y.strides[1:], y.offset)
    made = [y, last_h if last_h is not None else only, last_c if last_c is not None else only]
    return made[: len(node.outputs)]


def _check(lowering: Lowering, node: ir.Node, directions: int, steps: int) -> None:
    """Raises CannotLowerError for what the recurrence does not say."""
    attributes = node.attributes
    if attributes.get_int("layout", 0):
        raise CannotLowerError("layout 1, rows before steps, is not supported; wanted 0")
    usual = _ACTIVATIONS[node.op_type] * directions
    named = tuple(attributes["activations"].as_strings()) if "activations" in attributes else usual
    if [each.lower() for each in named] != [each.lower() for each in usual]:
        raise CannotLowerError(f"the activations {', '.join(named)}; wanted {', '.join(usual)}")
    if "clip" in attributes:
        raise CannotLowerError(f"clip {attributes.get_float('clip', 0.0):g} is not supported")
    if attributes.get_int("input_forget", 0):
        raise CannotLowerError("input_forget is not supported")
    if node.op_type == "LSTM" and lowering.given(node, 7) is not None:
        raise CannotLowerError("peepholes (input 7) are not supported")
    lengths = lowering.constant(node, 4)
    if lengths is not None and (lengths != steps).any():
        raise CannotLowerError(f"sequence_lens {lengths.tolist()}; only sequences of all {steps} steps are supported")
    if _direction(node) not in ("forward", "reverse", "bidirectional"):
        raise CannotLowerError(f"direction {_direction(node)!r} is unknown")


def _direction(node: ir.Node) -> str:
    return str(node.attributes.get_string("direction", "forward"))


def _weight(lowering: Lowering, node: ir.Node, position: int) -> Array:
    found = lowering.constant(node, position)
    if found is None:
        raise CannotLowerError(f"input {position} is missing")
    return found


def _biases(given: Array, gates: int, reset_after: bool) -> tuple[Array, Array | None]:
    """What the product adds for all gates of all directions; and what is added to the last gate's product with h, which
    a reset that comes after it multiplies too."""
    directions = given.shape[0]
    parts = given.astype(np.float32).reshape(directions, 2, gates, -1)
    of_x, of_h = parts[:, 0], parts[:, 1]
    if not reset_after:
        return (of_x + of_h).reshape(-1), None
    inner = np.ascontiguousarray(of_h[:, -1])
    outer = of_h.copy()
    outer[:, -1] = 0
    return (of_x + outer).reshape(-1), inner if inner.any() else None


def _start(lowering: Lowering, node: ir.Node, position: int) -> View | None:
    """An initial state; None where it is 0."""
    found = lowering.given(node, position)
    if found is None or (not isinstance(found, View) and not found.any()):
        return None
    return lowering.innermost_contiguous(lowering.view(node, position))


def _wanted(node: ir.Node, position: int) -> bool:
    """Whether anybody reads an output."""
    if position >= len(node.outputs):
        return False
    output = node.outputs[position]
    return bool(output.uses()) or output.is_graph_output()
