from __future__ import annotations

import numpy as np
import onnx_ir as ir
from pass_checks import build, op_types

from trine.passes import rewriting
from trine.passes.activations import ACTIVATIONS, POINTS, TOLERANCES


def _graph(
    body: str, inputs: str = "float[n, 4] x", outputs: str = "float[n, 4] y", **constants: np.ndarray
) -> ir.Graph:
    return ir.from_proto(build(inputs, "float[n, 4] y", body, **constants)).graph


def test_constant_reads_initializers_and_constant_nodes_up_to_a_limit() -> None:
    graph = _graph(
        "c = Constant<value = float[2] {1.0, 2.0}>()\n a = Add(x, w)\n y = Mul(a, c)", w=np.ones(4, np.float32)
    )
    values = {value.name: value for node in graph for value in node.inputs}
    np.testing.assert_array_equal(rewriting.constant(values["w"]), np.ones(4))
    np.testing.assert_array_equal(rewriting.constant(values["c"]), [1, 2])
    assert rewriting.constant(values["w"], limit=3) is None
    assert rewriting.constant(values["x"]) is None
    assert rewriting.constant(values["a"]) is None


def test_an_initializer_that_is_an_input_is_no_constant() -> None:
    graph = _graph("y = Add(x, w)", "float[n, 4] x, float[4] w", w=np.ones(4, np.float32))
    assert rewriting.constant(graph.inputs[1]) is None


def test_scalar_has_one_element_of_any_rank() -> None:
    graph = _graph("a = Add(x, w)\n y = Mul(a, v)", w=np.full((1, 1), 3, np.float32), v=np.ones(2, np.float32))
    assert rewriting.scalar(graph.initializers["w"]) == 3
    assert rewriting.scalar(graph.initializers["v"]) is None
    assert rewriting.scalar(None) is None


def test_same_dims_wants_certainty() -> None:
    def value(*dims: int | str | None) -> ir.Value:
        return ir.Value(shape=ir.Shape(dims))

    assert rewriting.same_dims(value("n", 4), value("n", 4))
    assert not rewriting.same_dims(value("n", 4), value("m", 4))
    assert not rewriting.same_dims(value(None, 4), value(None, 4))
    assert not rewriting.same_dims(value("n", 4), value("n", 4, 1))
    assert not rewriting.same_dims(ir.Value(), ir.Value())
    assert rewriting.known_dims(value(2, 4)) == (2, 4)
    assert rewriting.known_dims(value("n", 4)) is None


def test_forward_takes_over_the_name_of_an_output() -> None:
    graph = _graph("a = Relu(x)\n y = Identity(a)")
    relu, identity = graph
    assert rewriting.forward(identity, relu.outputs[0])
    assert op_types(ir.Model(graph, ir_version=10)) == ["Relu"]
    assert graph.outputs[0] is relu.outputs[0]
    assert graph.outputs[0].name == "y"


def test_forward_refuses_an_output_listed_twice() -> None:
    graph = _graph("a = Relu(x)\n y = Identity(a)")
    graph.outputs.append(graph.outputs[0])
    relu, identity = graph
    assert not rewriting.forward(identity, relu.outputs[0])


def test_private_nodes_do_not_make_what_stays() -> None:
    graph = _graph("a = Relu(x)\n b = Exp(a)\n y = Mul(b, a)")
    relu, exp, mul = graph
    assert rewriting.is_private([mul, exp, relu], mul)
    assert not rewriting.is_private([mul, exp, relu], mul, [relu.outputs[0]])
    assert not rewriting.is_private([exp, relu], exp)


def test_new_constants_get_names_that_are_free() -> None:
    graph = _graph("y = Add(x, w)", w=np.ones(4, np.float32))
    node = graph[0]
    assert [rewriting.add_initializer(node, "w", np.zeros(2)).name for _ in range(2)] == ["w_2", "w_3"]


def test_the_activations_differ_by_more_than_the_tolerances() -> None:
    results = [each.function(POINTS) for each in ACTIVATIONS]
    for index, one in enumerate(results):
        for other in results[index + 1 :]:
            assert np.max(np.abs(one - other)) > 3 * max(TOLERANCES.values())
