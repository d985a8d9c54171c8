"""Loops and conditionals, against the same in Python."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from network_runs import answer, answers, finish, start

from trine.errors import ConfigError
from trine.network import Network, Tensor

X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def number(network: Network, value: float | int | bool, dtype: str = "int64") -> Tensor:
    return network.add_constant(np.array(value, dtype)).get_output(0)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_over_rows(reverse: bool) -> None:
    """A running sum of rows: its last value, and all values along an axis of their own, in both orders."""
    network, (x,) = start(x=X)
    loop = network.add_loop()
    loop.add_trip_limit(number(network, 5), "COUNT")
    row = loop.add_iterator(x, reverse=reverse).get_output(0)
    total = loop.add_recurrence(network.add_constant(np.zeros(3, np.float32)).get_output(0))
    following = network.add_elementwise(total.get_output(0), row, "SUM").get_output(0)
    with pytest.raises(ConfigError, match="next value is bool, the first one float32"):
        total.set_input(1, network.add_elementwise(row, row, "EQUAL").get_output(0))
    total.set_input(1, following)
    finish(network, loop.add_loop_output(total.get_output(0), "LAST_VALUE"))
    for kind, axis in (("CONCATENATE", 0), ("CONCATENATE", 1), ("REVERSE", 1)):
        output = loop.add_loop_output(following, kind, axis)
        output.set_input(1, number(network, 5))
        finish(network, output)
    assert network.outputs[1].shape == (5, 3)
    assert network.outputs[3].shape == (3, 5)
    last, rows, columns, backward = answers(network, {"x": X})
    want = np.cumsum(X[::-1] if reverse else X, 0)
    np.testing.assert_allclose(last, want[-1], rtol=1e-5)
    np.testing.assert_allclose(rows, want, rtol=1e-5)
    np.testing.assert_allclose(columns, want.T, rtol=1e-5)
    np.testing.assert_allclose(backward, want[::-1].T, rtol=1e-5)


@pytest.mark.parametrize("limit", [0.5, 3.0, 1e9])
def test_a_loop_while_something_is_small(limit: float) -> None:
    """Doubling while below the limit, at most ten times; the condition is asked before each iteration."""
    feed = np.array(limit, np.float32)
    network, (bound,) = start(bound=feed)
    loop = network.add_loop()
    loop.add_trip_limit(number(network, 10, "int32"), "COUNT")
    value = loop.add_recurrence(number(network, 1, "float32"))
    below = network.add_elementwise(value.get_output(0), bound, "LESS").get_output(0)
    loop.add_trip_limit(below, "WHILE")
    two = number(network, 2, "float32")
    value.set_input(1, network.add_elementwise(value.get_output(0), two, "PROD").get_output(0))
    finish(network, loop.add_loop_output(value.get_output(0), "LAST_VALUE"))
    joined = loop.add_loop_output(value.get_output(0), "CONCATENATE")
    joined.set_input(1, number(network, 10))
    finish(network, joined)
    want, seen = 1.0, []
    for _ in range(10):
        if not want < limit:
            break
        seen.append(want)
        want *= 2
    last, values = answers(network, {"bound": feed})
    assert last == want
    assert values.tolist() == seen


def test_a_loop_in_a_loop_and_what_lies_outside() -> None:
    """Sum over i of sum over j of x[i] * x[j] * scale: the inner loop uses the outer one's row."""
    network, (x,) = start(x=X)
    scaled = network.add_elementwise(x, number(network, 3, "float32"), "PROD").get_output(0)
    zeros = network.add_constant(np.zeros(3, np.float32)).get_output(0)
    outer, inner = network.add_loop(), network.add_loop()
    outer.add_trip_limit(number(network, 5), "COUNT")
    inner.add_trip_limit(number(network, 5), "COUNT")
    outer_row = outer.add_iterator(x).get_output(0)
    outer_sum = outer.add_recurrence(zeros)
    inner_row = inner.add_iterator(scaled).get_output(0)
    inner_sum = inner.add_recurrence(zeros)
    product = network.add_elementwise(outer_row, inner_row, "PROD").get_output(0)
    inner_sum.set_input(1, network.add_elementwise(inner_sum.get_output(0), product, "SUM").get_output(0))
    of_inner = inner.add_loop_output(inner_sum.get_output(0), "LAST_VALUE").get_output(0)
    outer_sum.set_input(1, network.add_elementwise(outer_sum.get_output(0), of_inner, "SUM").get_output(0))
    result = outer.add_loop_output(outer_sum.get_output(0), "LAST_VALUE")
    np.testing.assert_allclose(answer(network, result, x=X), 3 * X.sum(0) ** 2, rtol=1e-4)


def test_a_loop_s_refusals() -> None:
    network, (x,) = start(x=X)
    loop = network.add_loop()
    with pytest.raises(ConfigError, match=r"COUNT takes a 0-D tensor of int32 or int64, got float32"):
        loop.add_trip_limit(x, "COUNT")
    value = loop.add_recurrence(x)
    inside = network.add_unary(value.get_output(0), "EXP").get_output(0)
    with pytest.raises(ConfigError, match="LAST_VALUE is of a recurrence of loop 'loop_1'"):
        loop.add_loop_output(inside, "LAST_VALUE")
    output = loop.add_loop_output(value.get_output(0), "LAST_VALUE").get_output(0)
    network.mark_output(output)
    with pytest.raises(ConfigError, match="loop 'loop_1' has no trip limit"):
        network.to_model()
    loop.add_trip_limit(number(network, 2), "COUNT")
    with pytest.raises(ConfigError, match=r"'recurrence_1' .* has no next value"):
        network.to_model()
    with pytest.raises(ConfigError, match="trip limit of kind COUNT already"):
        loop.add_trip_limit(number(network, 2), "COUNT")
    value.set_input(1, inside)
    network.mark_output(inside)
    with pytest.raises(ConfigError, match="computed inside of loop 'loop_1', and used outside of it"):
        network.to_model()


@pytest.mark.parametrize("flag", [True, False])
def test_a_conditional_runs_one_branch(flag: bool) -> None:
    feed = np.array(flag)
    network, (x, condition) = start(x=X, condition=feed)
    conditional = network.add_if_conditional()
    conditional.set_condition(condition)
    inside = conditional.add_input(x).get_output(0)
    square = network.add_elementwise(inside, inside, "PROD").get_output(0)
    half = network.add_slice(inside, (0, 0), (2, 3), (1, 1)).get_output(0)
    finish(network, conditional.add_output(square, half))
    second = conditional.add_output(network.add_unary(square, "SQRT").get_output(0), x)
    finish(network, second)
    first_shape = network.outputs[0].shape
    assert first_shape is not None
    assert (isinstance(first_shape[0], str), first_shape[1]) == (True, 3)
    first, other = answers(network, {"x": X, "condition": feed})
    np.testing.assert_allclose(first, X * X if flag else X[:2], rtol=1e-6)
    np.testing.assert_allclose(other, np.abs(X) if flag else X, rtol=1e-5)
    top = [node.op_type for node in onnx.load_from_string(network.to_onnx()).graph.node]
    assert top == ["If"]  # nothing of a branch is run outside of it


def test_a_conditional_s_refusals() -> None:
    network, (x,) = start(x=X)
    conditional = network.add_if_conditional()
    with pytest.raises(ConfigError, match="the condition is a 0-D bool, got float32"):
        conditional.set_condition(x)
    row = network.add_reduce(x, "SUM", 1, False).get_output(0)
    with pytest.raises(ConfigError, match="both branches give one dtype and rank"):
        conditional.add_output(x, row)
    network.mark_output(conditional.add_output(x, x).get_output(0))
    with pytest.raises(ConfigError, match="conditional 'conditional_1' has no condition"):
        network.to_model()
