from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import pytest
from cli_models import classifier
from onnx import numpy_helper

from trine.dtypes import DataType
from trine.engine.inspector import inspect_engine
from trine.engine.manifest import Manifest, TensorInfo
from trine.engine.portable_graph import INLINE_LIMIT, PortableGraph, Weight
from trine.errors import EngineFormatError
from trine.profile import OptimizationProfile, ShapeRange


@dataclass(frozen=True)
class Contents:
    manifest: Manifest
    graph: PortableGraph
    plans: dict[str, bytes] = field(default_factory=lambda: {"cpu": b"{}"})


def contents() -> Contents:
    """Two convolutions of 16 channels on 3 x 8 x 8, of which the second one's weights lie beside the graph."""
    model = onnx.shape_inference.infer_shapes(classifier(convolutions=2, channels=16))
    weights = [
        Weight.from_array(tensor.name, numpy_helper.to_array(tensor))
        for tensor in model.graph.initializer
        if len(tensor.raw_data) > INLINE_LIMIT
    ]
    small = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) <= INLINE_LIMIT]
    del model.graph.initializer[:]
    model.graph.initializer.extend(small)
    manifest = Manifest(
        "tiny",
        "tiny.onnx",
        (TensorInfo("images", DataType.FLOAT32, ("batch", 3, 8, 8)),),
        (TensorInfo("scores", DataType.FLOAT32, ("batch", 5)),),
        OptimizationProfile({"images": ShapeRange((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}),
        build={
            "stages": [{"name": "import", "seconds": 1.5}],
            "passes": [{"name": "FoldConstants", "changed": 2}],
            "tactics": [
                {"name": "onnxruntime", "chosen": False, "latency_ms": 0.4, "reasons": [], "options": {}},
                {"name": "openvino", "chosen": True, "latency_ms": 0.2, "reasons": [], "options": {}},
                {"name": "openvino", "chosen": False, "latency_ms": None, "reasons": ["no bf16"], "options": {}},
            ],
            "threads": 2,
        },
    )
    return Contents(manifest, PortableGraph(model.SerializeToString(), tuple(weights)))


def test_it_is_plain_data() -> None:
    data = inspect_engine(contents())
    assert json.loads(json.dumps(data)) == data


def test_layers_have_dtypes_shapes_and_weights() -> None:
    layers = inspect_engine(contents())["layers"]
    first, second = layers[0], layers[2]
    assert (first["op"], first["name"], first["attributes"]) == ("Conv", "conv0", {"pads": [1, 1, 1, 1]})
    assert first["inputs"][0] == {"name": "images", "dtype": "float32", "shape": ["batch", 3, 8, 8], "kind": "input"}
    assert first["inputs"][1]["kind"] == "weight"
    assert first["outputs"][0]["shape"] == ["batch", 16, 8, 8]
    assert second["inputs"][1]["shape"] == [16, 16, 3, 3]
    assert second["weight_bytes"] == 16 * 16 * 9 * 4
    assert second["parameters"] == 16 * 16 * 9
    dense = next(layer for layer in layers if layer["name"] == "matmul")
    assert dense["weight_bytes"] == 16 * 5 * 4  # within the graph, not beside it
    assert layers[-1]["outputs"][0]["kind"] == "output"


def test_work_is_for_one_row() -> None:
    data = inspect_engine(contents())
    by_name = {layer["name"]: layer["macs"] for layer in data["layers"]}
    assert by_name["conv0"] == 8 * 8 * 16 * 3 * 9
    assert by_name["conv1"] == 8 * 8 * 16 * 16 * 9
    assert by_name["matmul"] == 16 * 5
    assert by_name["relu0"] is None
    assert data["macs"] == by_name["conv0"] + by_name["conv1"] + by_name["matmul"]


def test_work_where_the_graph_names_the_batch_otherwise() -> None:
    model = onnx.load_from_string(contents().graph.model)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = "N"
    graph = PortableGraph(model.SerializeToString(), contents().graph.weights)
    data = inspect_engine(replace(contents(), graph=graph))
    assert data["macs"] == inspect_engine(contents())["macs"]
    assert data["layers"][0]["outputs"][0]["shape"] == ["batch", 16, 8, 8]


def test_work_of_a_fixed_batch_is_of_a_call() -> None:
    assert inspect_engine(contents())["macs_of"] == "row"
    for rows, of in ((4, "call"), (1, "row")):
        fixed = TensorInfo("images", DataType.FLOAT32, (rows, 3, 8, 8))
        assert (
            inspect_engine(replace(contents(), manifest=replace(contents().manifest, inputs=(fixed,))))["macs_of"] == of
        )


def test_shapes_are_no_parameters() -> None:
    model = onnx.load_from_string(contents().graph.model)
    before = inspect_engine(contents())
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, -1]), "shape"))
    model.graph.node.add(op_type="Reshape", input=[model.graph.node[-1].input[0], "shape"], output=["flat"])
    after = inspect_engine(
        replace(contents(), graph=PortableGraph(model.SerializeToString(), contents().graph.weights))
    )
    assert after["sizes"]["parameters"] == before["sizes"]["parameters"]
    assert after["layers"][-1]["parameters"] == 0


def test_sizes() -> None:
    engine = contents()
    sizes = inspect_engine(engine)["sizes"]
    assert sizes["parameters"] == 16 * 27 + 16 * 144 + 16 * 5
    assert sizes["weights"] == len(engine.graph.weights) == 2
    assert sizes["weight_bytes"] == 4 * 16 * (27 + 144)
    assert sizes["plan_bytes"] == {"cpu": 2}


def test_tactics_the_chosen_one_first_and_a_reason_for_every_other() -> None:
    data = inspect_engine(contents())
    assert data["tactic"] == "openvino"
    assert [tactic["chosen"] for tactic in data["tactics"]] == [True, False, False]
    assert data["tactics"][1]["reasons"] == ["slower: 0.400 ms against 0.200 ms"]
    assert data["tactics"][2]["reasons"] == ["no bf16"]


def test_inputs_have_their_profile() -> None:
    data = inspect_engine(contents())
    assert data["inputs"][0]["profile"] == {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]}
    assert "profile" not in data["outputs"][0]
    assert data["operators"] == {"Conv": 2, "Relu": 2, "GlobalAveragePool": 1, "Flatten": 1, "MatMul": 1}


def test_an_engine_that_records_nothing() -> None:
    engine = replace(contents(), manifest=replace(contents().manifest, build={}, profile=OptimizationProfile()))
    data = inspect_engine(engine)
    assert (data["tactic"], data["tactics"], data["evidence"]) == (None, [], None)
    assert data["layers"][0]["macs"] is None  # the batch has no size


def test_a_damaged_graph() -> None:
    with pytest.raises(EngineFormatError, match="graph"):
        inspect_engine(replace(contents(), graph=PortableGraph(b"\x3a\xff")))


def test_transposed_gemm_and_convolution() -> None:
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((3, 4, 2, 2)).astype(np.float32), "up"),
        numpy_helper.from_array(rng.standard_normal((5, 7)).astype(np.float32), "gemm"),
    ]
    nodes = [
        helper.make_node("ConvTranspose", ["images", "up"], ["u"], "up", strides=[2, 2]),
        helper.make_node("Gemm", ["a", "gemm"], ["g"], "gemm", transA=1),
    ]
    values = [
        helper.make_tensor_value_info("u", TensorProto.FLOAT, ["batch", 4, 16, 16]),
        helper.make_tensor_value_info("a", TensorProto.FLOAT, [5, 2]),
        helper.make_tensor_value_info("g", TensorProto.FLOAT, [2, 7]),
    ]
    graph = helper.make_graph(nodes, "g", [], [], weights, value_info=values)
    engine = replace(contents(), graph=PortableGraph(helper.make_model(graph).SerializeToString()))
    up, gemm = inspect_engine(engine)["layers"]
    assert up["macs"] == 3 * 8 * 8 * (4 * 2 * 2)
    assert gemm["macs"] == 2 * 7 * 5


def test_attention_and_products_of_dimensions() -> None:
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Attention", ["q", "k", "v"], ["o"], "attention"),
        helper.make_node("MatMul", ["flat", "w"], ["p"], "projection"),
        helper.make_node("MatMul", ["odd", "w"], ["r"], "unknown"),
    ]
    shapes = {
        "q": ["batch", 2, 10, 4],
        "k": ["batch", 2, 7, 4],
        "v": ["batch", 2, 7, 6],
        "o": ["batch", 2, 10, 6],
        "flat": ["10*batch", 8],
        "w": [8, 3],
        "p": ["10*batch", 3],
        "odd": ["batch + 1", 8],
        "r": ["batch + 1", 3],
    }
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "g", [], [], value_info=values)
    engine = replace(contents(), graph=PortableGraph(helper.make_model(graph).SerializeToString()))
    attention, projection, unknown = inspect_engine(engine)["layers"]
    assert attention["macs"] == 2 * 10 * 7 * 4 + 2 * 10 * 7 * 6
    assert projection["macs"] == 10 * 8 * 3
    assert unknown["macs"] is None
