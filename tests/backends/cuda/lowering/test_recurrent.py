"""LSTM, GRU and RNN beside ONNX Runtime, and what of them is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from backends.cuda.lowered import agrees, kinds, lowered
from pass_checks import build

from trine.backends.cuda.groups import Recurrence
from trine.backends.cuda.lowering import lower
from trine.builder.freeze import freeze, tensor_infos
from trine.errors import UnsupportedError
from trine.verify.tolerances import budget_for

STEPS, INPUTS, SIZE = 4, 5, 7
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ROWS = 3
X = f"float[{STEPS},{ROWS},{INPUTS}] x"


def weights(operator: str, directions: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(operator) + directions)
    rows = GATES[operator] * SIZE
    shapes = {"w": (directions, rows, INPUTS), "r": (directions, rows, SIZE), "b": (directions, 2 * rows)}
    return {name: (rng.standard_normal(shape) * 0.5).astype(np.float32) for name, shape in shapes.items()}


def body(operator: str, attributes: str = "", inputs: str = "x, w, r, b", outputs: str = "y") -> str:
    more = f", {attributes}" if attributes else ""
    return f"{outputs} = {operator} <hidden_size = {SIZE}{more}> ({inputs})"


def only(made: Any) -> Recurrence:
    (group,) = [each for each in made.groups if isinstance(each, Recurrence)]
    return group


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("operator", GATES)
def test_directions(operator: str, direction: str) -> None:
    given = weights(operator, 2 if direction == "bidirectional" else 1)
    made = agrees(build(X, "float y", body(operator, f'direction = "{direction}"'), **given))
    assert kinds(made) == {"Pointwise": 2, "Gemm": 1, "Recurrence": 1}, "copies of the input and the output"
    assert (only(made).last_h, only(made).last_c) == (None, None)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_in_sixteen_bits(operator: str, precision: str) -> None:
    """What the inputs add to the gates is rounded too; the steps are few."""
    model = build(X, "float y", body(operator, 'direction = "bidirectional"'), **weights(operator, 2))
    made = agrees(model, precision=precision, tolerance=budget_for(precision))
    assert only(made).gates.dtype == precision


@pytest.mark.parametrize("operator", ["GRU", "RNN", "LSTM"])
def test_without_biases(operator: str) -> None:
    given = {name: array for name, array in weights(operator).items() if name != "b"}
    agrees(build(X, "float y", body(operator, inputs="x, w, r"), **given))


@pytest.mark.parametrize("inputs", ["x, w, r, b", "x, w, r"])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_gru_whose_reset_comes_after_the_product(direction: str, inputs: str) -> None:
    given = weights("GRU", 2 if direction == "bidirectional" else 1)
    if inputs == "x, w, r":
        del given["b"]
    text = body("GRU", f'linear_before_reset = 1, direction = "{direction}"', inputs)
    assert only(agrees(build(X, "float y", text, **given))).reset_after


ENDS = {
    "all": ("y, h, c", "float y, float h, float c", (STEPS, True, True)),
    "y and c": ("y, , c", "float y, float c", (STEPS, False, True)),
    "h and c": (", h, c", "float h, float c", (1, False, True)),
    "h": (", h", "float h", (1, False, False)),
    "c": (", , c", "float c", (1, False, True)),
}


@pytest.mark.parametrize("name", ENDS)
def test_outputs_that_nobody_wants(name: str) -> None:
    """h alone is what y has at its last step."""
    outputs, declared, wanted = ENDS[name]
    text = body("LSTM", 'direction = "bidirectional"', outputs=outputs)
    group = only(agrees(build(X, declared, text, **weights("LSTM", 2))))
    assert (group.y.shape[0], group.last_h is not None, group.last_c is not None) == wanted


def test_initial_states() -> None:
    """Computed, constant, and the zeros that PyTorch's layers begin with."""
    states = f"{X}, float[2,{ROWS},{SIZE}] h0, float[2,{ROWS},{SIZE}] c0"
    given = weights("LSTM", 2)
    text = "a = Tanh(h0)\n" + body("LSTM", 'direction = "bidirectional"', "x, w, r, b, , a, c0", "y, h, c")
    group = only(agrees(build(states, "float y, float h, float c", text, **given)))
    assert group.h0 is not None
    assert group.c0 is not None
    rng = np.random.default_rng(0)
    h0 = rng.standard_normal((2, ROWS, SIZE)).astype(np.float32)
    text = body("LSTM", 'direction = "bidirectional"', "x, w, r, b, , h0, c0", "y, h")
    group = only(agrees(build(X, "float y, float h", text, **given, h0=h0, c0=np.zeros_like(h0))))
    assert group.h0 is not None
    assert group.c0 is None
    # The same state for all rows, which lie one on another then.
    text = "s = Expand(h0, shape)\n" + body("GRU", inputs="x, w, r, b, , s", outputs="y, h")
    shape = np.array([1, ROWS, SIZE], np.int64)
    agrees(build(f"{X}, float[1,1,{SIZE}] h0", "float y, float h", text, **weights("GRU"), shape=shape))


def test_rows_before_steps() -> None:
    """As PyTorch's batch_first has it: nothing is copied, neither before nor after."""
    text = (
        "t = Transpose <perm = [1, 0, 2]> (x)\n"
        + body("LSTM", 'direction = "bidirectional"', "t, w, r, b", "z")
        + "\nu = Transpose <perm = [2, 0, 1, 3]> (z)\ny = Reshape(u, shape)"
    )
    shape = np.array([0, 0, 2 * SIZE], np.int64)
    model = build(f"float[n,{STEPS},{INPUTS}] x", "float y", text, **weights("LSTM", 2), shape=shape)
    assert kinds(agrees(model)) == {"Gemm": 1, "Recurrence": 1}


def test_an_image_s_columns_and_rows() -> None:
    """As Sequencer has it: columns of all images, then rows, side by side; nothing is copied in between."""
    text = (
        "v = Transpose <perm = [1, 0, 2, 3]> (x)\nvr = Reshape(v, joined)\n"
        + body("LSTM", 'direction = "bidirectional"', "vr, w, r, b", "vy")
        + "\nvt = Transpose <perm = [0, 2, 1, 3]> (vy)\nvs = Reshape(vt, apart)"
        + "\nvz = Transpose <perm = [1, 0, 2, 3]> (vs)\n"
        + "h = Transpose <perm = [2, 0, 1, 3]> (x)\nhr = Reshape(h, joined)\n"
        + body("GRU", 'direction = "bidirectional"', "hr, w2, r2, b2", "hy")
        + "\nht = Transpose <perm = [0, 2, 1, 3]> (hy)\nhs = Reshape(ht, apart)"
        + "\nhz = Transpose <perm = [1, 2, 0, 3]> (hs)\n"
        + "c = Concat <axis = 3> (vz, hz)\nf = MatMul(c, m)\ny = Add(f, x)"
    )
    constants = {
        **weights("LSTM", 2),
        **{f"{name}2": array for name, array in weights("GRU", 2).items()},
        "joined": np.array([STEPS, ROWS * STEPS, INPUTS], np.int64),
        "apart": np.array([STEPS, ROWS, STEPS, 2 * SIZE], np.int64),
        "m": np.ones((4 * SIZE, INPUTS), np.float32) / 9,
    }
    model = build(f"float[{ROWS},{STEPS},{STEPS},{INPUTS}] x", "float y", text, **constants)
    assert kinds(agrees(model)) == {"Pointwise": 1, "Gemm": 3, "Recurrence": 2}, "a copy of the input, besides"


def test_lengths_of_all_steps_say_nothing() -> None:
    lengths = np.full(ROWS, STEPS, np.int32)
    agrees(build(X, "float y", body("LSTM", inputs="x, w, r, b, lengths"), **weights("LSTM"), lengths=lengths))


def test_the_usual_activations_may_be_spelled_out() -> None:
    agrees(build(X, "float y", body("GRU", 'activations = ["sigmoid", "tanh"]'), **weights("GRU")))


REFUSED: dict[str, tuple[str, str, str, dict[str, np.ndarray]]] = {
    "the activations Sigmoid, Relu, Tanh; wanted Sigmoid, Tanh, Tanh": (
        "LSTM", 'activations = ["Sigmoid", "Relu", "Tanh"]', "x, w, r, b", {},
    ),
    "the activations Relu; wanted Tanh": ("RNN", 'activations = ["Relu"]', "x, w, r, b", {}),
    "clip 3 is not supported": ("GRU", "clip = 3.0", "x, w, r, b", {}),
    "input_forget is not supported": ("LSTM", "input_forget = 1", "x, w, r, b", {}),
    r"peepholes \(input 7\) are not supported": (
        "LSTM", "", "x, w, r, b, , , , p", {"p": np.ones((1, 3 * SIZE), np.float32)},
    ),
    r"sequence_lens \[4, 2, 4\]; only sequences of all 4 steps are supported": (
        "LSTM", "", "x, w, r, b, lengths", {"lengths": np.array([4, 2, 4], np.int32)},
    ),
    r"input 2 \(q\) is computed; only constants work": ("GRU", "", "x, w, q, b", {}),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(reason: str) -> None:
    operator, attributes, inputs, more = REFUSED[reason]
    text = body(operator, attributes, inputs)
    given = weights(operator)
    declared = X
    if "q" in inputs:
        declared += f", float[1,{GATES[operator] * SIZE},{SIZE}] q"
        del given["r"]
    with pytest.raises(UnsupportedError, match=reason):
        lowered(build(declared, "float y", text, **given, **more))


def test_computed_lengths_are_refused() -> None:
    text = "none = Sub(lengths, lengths)\n" + body("LSTM", inputs="x, w, r, b, none")
    with pytest.raises(UnsupportedError, match=r"input 4 \(none\) is computed; only constants work"):
        lowered(build(f"{X}, int32[{ROWS}] lengths", "float y", text, **weights("LSTM")))


def test_another_layout_is_refused() -> None:
    """ONNX Runtime has none either."""
    model = ir.from_proto(build(X, f"float[{STEPS},1,{ROWS},{SIZE}] y", body("LSTM", "layout = 1"), **weights("LSTM")))
    inputs, outputs = tensor_infos(model)
    with pytest.raises(UnsupportedError, match="layout 1, rows before steps, is not supported; wanted 0"):
        lower(freeze(model), ROWS, inputs, outputs, "fp32")
