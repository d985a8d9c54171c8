from __future__ import annotations

import contextlib
import random

import numpy as np
import onnx
import pytest
from cli_models import classifier
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from trine.engine import onnx_reader
from trine.engine.onnx_reader import MAX_ATTRIBUTE_ITEMS, read_graph
from trine.errors import EngineFormatError


def model_of(nodes: list[onnx.NodeProto], **attributes: object) -> bytes:
    graph = helper.make_graph(nodes, "g", [], [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


def test_it_reads_what_the_onnx_package_reads() -> None:
    model = onnx.shape_inference.infer_shapes(classifier(convolutions=3))
    view = read_graph(model.SerializeToString())
    assert view.inputs == ("images",)
    assert view.opsets == {"": 20}
    assert [(n.op, n.name, n.inputs, n.outputs) for n in view.nodes] == [
        (n.op_type, n.name, tuple(n.input), tuple(n.output)) for n in model.graph.node
    ]
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        shape = tuple(d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim)
        assert (view.tensors[info.name].shape, view.tensors[info.name].dtype) == (shape, "float32")
    assert {(t.name, tuple(t.dims)) for t in model.graph.initializer} == {
        (t.name, t.shape) for t in view.initializers.values()
    }


def test_attributes_of_every_kind() -> None:
    values = {
        "an_int": -3,
        "a_float": 0.1,
        "a_string": "SAME_UPPER",
        "ints": [1, -2],
        "floats": [0.5, 0.25],
        "strings": ["a", "b"],
        "zero": 0,
    }
    view = read_graph(model_of([helper.make_node("Foo", ["x", ""], ["y"], domain="my.ops", **values)]))
    assert dict(view.nodes[0].attributes) == values
    assert (view.nodes[0].domain, view.nodes[0].inputs) == ("my.ops", ("x", ""))


def test_values_of_tensors_and_subgraphs_are_left_out() -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0])
    body = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "body", [], [])
    node = helper.make_node("Foo", [], ["y"], value=tensor, then_branch=body, long=[0] * (MAX_ATTRIBUTE_ITEMS + 1))
    assert read_graph(model_of([node])).nodes[0].attributes == {
        "value": "<tensor>",
        "then_branch": "<graph>",
        "long": f"<{MAX_ATTRIBUTE_ITEMS + 1} values>",
    }


def test_a_graph_in_two_parts_is_one_graph() -> None:
    first = model_of([helper.make_node("Relu", ["a"], ["b"])])
    second = onnx.ModelProto(graph=onnx.GraphProto(node=[helper.make_node("Neg", ["b"], ["c"])])).SerializeToString()
    assert [node.op for node in read_graph(first + second).nodes] == ["Relu", "Neg"]


def test_types_that_are_not_tensors_have_no_shape() -> None:
    info = helper.make_value_info("s", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [2])))
    unknown = helper.make_tensor_value_info("u", TensorProto.FLOAT, [None, 3])
    graph = helper.make_graph([], "g", [info, unknown], [])
    view = read_graph(helper.make_model(graph).SerializeToString())
    assert (view.tensors["s"].dtype, view.tensors["s"].shape) == ("", None)
    assert view.tensors["u"].shape == ("?", 3)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x3a\x05ab", "a field of 5 bytes in 2"),
        (b"\x3a", "ends within a number"),
        (b"\xff" * 11, "more than ten bytes"),
        (b"\x3b", "wire type 3"),
        (b"\x38\x01", "a number where a message belongs"),
        (b"\x42\x02\x12\x00", "a message where a number belongs"),
    ],
)
def test_malformed_bytes_are_named(data: bytes, says: str) -> None:
    with pytest.raises(EngineFormatError, match=says) as caught:
        read_graph(data)
    assert caught.value.section == "graph"


def test_mutated_models_give_a_graph_or_the_one_error() -> None:
    whole = bytearray(onnx.shape_inference.infer_shapes(classifier(channels=2)).SerializeToString())
    rng = random.Random(0)
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(EngineFormatError):
            read_graph(bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]))


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(EngineFormatError):
        read_graph(data)


def test_the_number_of_objects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_reader, "MAX_OBJECTS", 100)
    empty_nodes = b"\x0a\x00" * 60
    graph = b"\x3a\x78" + empty_nodes
    assert len(read_graph(graph).nodes) == 60
    with pytest.raises(EngineFormatError, match="more than 100 fields"):
        read_graph(graph + graph)


def test_float32_attributes_keep_their_short_form() -> None:
    node = helper.make_node("Foo", [], ["y"], a=float(np.float32(1e-5)))
    assert read_graph(model_of([node])).nodes[0].attributes["a"] == 1e-05
