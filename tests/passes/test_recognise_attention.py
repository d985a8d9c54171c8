from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.lift_constants import LiftConstants
from trine.passes.recognise_attention import RecogniseAttention
from trine.passes.remove_dead_nodes import RemoveDeadNodes

PASSES = (LiftConstants(), RecogniseAttention(), RemoveDeadNodes())
ONLY = PASSES[:2]
Q, K, V = "float[n, 2, 5, 8] q", "float[n, 2, 7, 8] k", "float[n, 2, 7, 6] v"
INPUTS, Y = f"{Q}, {K}, {V}", "float[n, 2, 5, 6] y"
SPELLED = """t = Transpose<perm = [0, 1, 3, 2]>(k)
 a = MatMul(q, t)
 s = Mul(a, c)
 p = Softmax<axis = -1>(s)
 y = MatMul(p, v)"""


def _model(body: str = SPELLED, inputs: str = INPUTS, outputs: str = Y, opset: int = 23, dtype: type = np.float32):
    constants = {"c": np.array(0.3, dtype), "d": np.array(2.5, dtype)}
    return build(inputs, outputs, body, opset, **{k: v for k, v in constants.items() if f" {k})" in body})


def _scale(proto) -> float:
    model = optimised(proto, *PASSES)
    assert op_types(model)[-1] == "Attention"
    return float(list(model.graph)[-1].attributes["scale"].as_float())


def test_scaled_scores() -> None:
    assert _scale(_model()) == pytest.approx(0.3)


def test_unscaled() -> None:
    assert _scale(_model(SPELLED.replace("s = Mul(a, c)\n p = Softmax<axis = -1>(s)", "p = Softmax(a)"))) == 1.0


def test_divided_scores() -> None:
    assert _scale(_model(SPELLED.replace("Mul(a, c)", "Div(a, d)"))) == pytest.approx(0.4)


def test_scale_split_between_queries_and_keys() -> None:
    body = SPELLED.replace("s = Mul(a, c)\n", "").replace("Softmax<axis = -1>(s)", "Softmax(a)")
    body = body.replace("MatMul(q, t)", "MatMul(u, w)").replace("a =", "u = Mul(q, c)\n w = Mul(t, c)\n a =")
    assert _scale(_model(body)) == pytest.approx(0.09)


def test_scaled_keys_before_their_transpose() -> None:
    body = "l = Mul(k, c)\n" + SPELLED.replace("(k)", "(l)").replace("s = Mul(a, c)\n", "").replace("(s)", "(a)")
    assert _scale(_model(body)) == pytest.approx(0.3)


@pytest.mark.parametrize("shape", ["n, 2, 5, 7", "1, 2, 5, 7", "n, 1, 5, 7", "1, 1, 5, 7"])
@pytest.mark.parametrize("line", ["Add(s, m)", "Add(m, s)"])
def test_mask(line: str, shape: str) -> None:
    body = SPELLED.replace("Softmax<axis = -1>(s)", "Softmax(z)").replace("p =", f"z = {line}\n p =")
    assert _scale(_model(body, f"{INPUTS}, float[{shape}] m")) == pytest.approx(0.3)


def test_keys_that_come_with_another_layout_are_transposed() -> None:
    body = SPELLED.replace("[0, 1, 3, 2]", "[0, 2, 3, 1]")
    model = optimised(_model(body, INPUTS.replace(K, "float[n, 7, 2, 8] k")), *PASSES)
    assert op_types(model) == ["Transpose", "Attention"]


def test_dynamic_length() -> None:
    inputs = "float[n, 2, l, 8] q, float[n, 2, l, 8] k, float[n, 2, l, 8] v"
    assert _scale(_model(inputs=inputs, outputs="float[n, 2, l, 8] y")) == pytest.approx(0.3)


def test_half_precision() -> None:
    half = (INPUTS.replace("float", "float16"), Y.replace("float", "float16"))
    model = optimised(_model(SPELLED, *half, dtype=np.float16), *PASSES, tolerance=5e-3)
    assert op_types(model) == ["Attention"]


def test_the_transpose_stays_for_its_other_users() -> None:
    model = optimised(_model(SPELLED + "\n z = Relu(t)", outputs=f"{Y}, float[n, 2, 8, 7] z"), *PASSES)
    assert sorted(op_types(model)) == ["Attention", "Relu", "Transpose"]


@pytest.mark.parametrize(("name", "shape"), [("a", "n, 2, 5, 7"), ("p", "n, 2, 5, 7")])
def test_refuses_a_part_that_is_an_output(name: str, shape: str) -> None:
    assert unchanged(_model(outputs=f"{Y}, float[{shape}] {name}"), *ONLY)


def test_refuses_probabilities_that_others_use() -> None:
    assert unchanged(_model(SPELLED + "\n z = Relu(p)", outputs=f"{Y}, float[n, 2, 5, 7] z"), *ONLY)


@pytest.mark.parametrize(
    "body",
    [
        SPELLED.replace("axis = -1", "axis = 2"),
        SPELLED.replace("Mul(a, c)", "Div(c, a)"),
        SPELLED.replace("Softmax<axis = -1>(s)", "LogSoftmax(s)"),
    ],
)
def test_refuses_other_functions(body: str) -> None:
    assert unchanged(build(INPUTS, Y, body, c=np.float32(0.3)), *ONLY)


def test_refuses_a_mask_that_is_scaled_too() -> None:
    body = SPELLED.replace("s = Mul(a, c)", "b = Add(a, m)\n s = Mul(b, c)")
    assert unchanged(_model(body, f"{INPUTS}, float[n, 2, 5, 7] m"), *ONLY)


@pytest.mark.parametrize("shape", ["5, 7", "n, 2, 1, 7", "o, 2, 5, 7"])
def test_refuses_a_mask_of_another_shape(shape: str) -> None:
    body = SPELLED.replace("Softmax<axis = -1>(s)", "Softmax(z)").replace("p =", "z = Add(s, m)\n p =")
    assert unchanged(_model(body, f"{INPUTS}, float[{shape}] m"), *ONLY)


@pytest.mark.parametrize(
    "inputs",
    [
        "float[n, 2, 5, 8] q, float[1, 2, 7, 8] k, float[n, 2, 7, 6] v",  # keys broadcast
        "float[n, 2, 5, 8] q, float[n, 1, 7, 8] k, float[n, 1, 7, 6] v",
        "float[n, 2, 5, 8] q, float[o, 2, 7, 8] k, float[n, 2, 7, 6] v",  # they might
    ],
)
def test_refuses_what_broadcasts(inputs: str) -> None:
    assert unchanged(_model(inputs=inputs), *ONLY)


def test_refuses_three_dimensions_doubles_and_older_opsets() -> None:
    inputs = "float[n, 5, 8] q, float[n, 7, 8] k, float[n, 7, 6] v"
    assert unchanged(_model(SPELLED.replace("[0, 1, 3, 2]", "[0, 2, 1]"), inputs, "float[n, 5, 6] y"), *ONLY)
    doubles = (INPUTS.replace("float", "double"), Y.replace("float", "double"))
    assert unchanged(_model(SPELLED, *doubles, dtype=np.float64), *ONLY)
    assert unchanged(_model(opset=22), *ONLY)
