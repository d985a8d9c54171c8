"""LSTM, GRU and RNN: a product for what the inputs of all steps add to the gates, and a recurrence over the steps."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Epilogue, Recurrence, View
from trine.backends.cuda.lowering.factored import Factored, plain
from trine.backends.cuda.lowering.products import product
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.static_graph import Array
from trine.backends.cuda.lowering.views import memory_order, reshaped

__all__ = ["lower_recurrent"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def lower_recurrent(lowering: Lowering, node: ir.Node) -> list[View | Factored]:
    """All three operators with their usual activations, constant weights, and rows that are equally long.

    y lies as the rows and steps of x do, with a step's directions side by side: what PyTorch's layers return is a view
    of it.
    """
    x = _rows_on_two_axes(lowering, node)
    w, r = (_weight(lowering, node, position) for position in (1, 2))
    directions, _, size = r.shape
    steps, high, wide, _ = x.shape
    rows = high * wide
    _check(lowering, node, directions, steps)
    gates = _GATES[node.op_type]
    reset_after = node.op_type == "GRU" and bool(node.attributes.get_int("linear_before_reset", 0))
    given = lowering.constant(node, 3)
    bias, inner = (None, None) if given is None else _biases(given, gates, reset_after)
    name = value_name(node, 3)
    weight = lowering.weight(w.reshape(-1, w.shape[2]), value_name(node, 1))
    epilogue = Epilogue() if bias is None else Epilogue(lowering.weight(bias, name, "fp32"))
    added = product(lowering, x, weight, epilogue)
    x_gates = reshaped(added, (steps, high, wide, directions, gates, size))
    matrices = reshaped(lowering.weight(r, value_name(node, 2)), (directions, gates, size, size))
    assert x_gates is not None
    assert matrices is not None
    wanted = [_wanted(node, position) for position in range(3)]
    order = [(0, 2, 3)[axis] for axis in memory_order(added) if axis < 3]
    y = lowering.new((steps if wanted[0] else 1, directions, high, wide, size), order=[*order, 1, 4])
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
    of_all = _with_rows_joined(y, (1, 1, 2, 1))
    of_last = _with_rows_joined(View(y.buffer, y.shape[1:], y.strides[1:], y.offset), (1, 2, 1))
    made = [of_all, of_last if last_h is None else last_h, of_last if last_c is None else last_c]
    return made[: len(node.outputs)]


def _rows_on_two_axes(lowering: Lowering, node: ir.Node) -> View:
    """x as (T, P, Q, I): its rows may be a product of two axes, as they are where an image's columns are sequences."""
    tensor = lowering.tensor(node, 0)
    if tensor.counts == (1, 2, 1):
        return tensor.base
    x = lowering.view(node, 0)
    found = reshaped(x, (x.shape[0], 1, *x.shape[1:]))
    assert found is not None
    return found


def _with_rows_joined(y: View, counts: tuple[int, ...]) -> View | Factored:
    made = Factored(y, counts)
    view = plain(made)
    return made if view is None else view


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
