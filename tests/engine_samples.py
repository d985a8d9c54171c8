"""A small real engine: y = x @ w + b, with the large weight w outside the ONNX bytes. And how tests read it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trine.dtypes import DataType
from trine.engine import container, strict_json
from trine.engine.format import EngineContents, engine_to_bytes, read_engine
from trine.engine.manifest import Manifest, TensorInfo
from trine.engine.manifest_json import manifest_to_json
from trine.engine.portable_graph import PortableGraph, Weight
from trine.errors import EngineFormatError
from trine.profile import OptimizationProfile, ShapeRange

ROWS, COLUMNS = 24, 40
W = np.random.default_rng(0).standard_normal((ROWS, COLUMNS), dtype=np.float32)
PLANS = {"cpu": b'{"tactic":"openvino"}'}


def onnx_model(nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto]) -> bytes:
    """A model from x (batch, ROWS) to y (batch, COLUMNS), both float32."""
    graph = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", ROWS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", COLUMNS])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


def sample_graph() -> PortableGraph:
    """x @ w + b."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["y"])]
    bias = helper.make_tensor("b", TensorProto.FLOAT, [1], [1.5])
    return PortableGraph(onnx_model(nodes, [bias]), (Weight.from_array("w", W),))


def expected(x: np.ndarray) -> np.ndarray:
    """What the sample graph computes, in float64. ``x``: (batch, ROWS)."""
    return x.astype(np.float64) @ W.astype(np.float64) + 1.5


def sample_manifest() -> Manifest:
    """Every field filled."""
    return Manifest(
        name="sample",
        source="torch.nn.Module sample.Net, \u00fcbung \U0001f600",
        inputs=(TensorInfo("x", DataType.FLOAT32, ("batch", ROWS)),),
        outputs=(TensorInfo("y", DataType.FLOAT32, ("batch", COLUMNS)),),
        profile=OptimizationProfile({"x": ShapeRange((1, ROWS), (8, ROWS), (64, ROWS))}),
        precision="bf16",
        input_structure={"args": ["x"]},
        output_structure=["y"],
        created="2026-01-01T00:00:00Z",
        versions={"trine": "0.1.0", "openvino": "2026.4"},
        evidence={"passed": True, "rows": [{"relative_error": 1e-7, "shape": [1, 24]}]},
        build={"stages": [{"name": "import", "seconds": 0.5}], "nodes_before": 3, "nodes_after": 2},
    )


SOUND = engine_to_bytes(sample_manifest(), sample_graph(), PLANS)
ENTRY = {"name": "w", "dtype": "float32", "shape": list(W.shape), "offset": 0, "nbytes": W.nbytes}


def refused(source: Any, match: str, section: str | None = None) -> EngineFormatError:
    """The error that reading ``source`` raises; its text matches, and it names ``section`` if one is given."""
    with pytest.raises(EngineFormatError, match=match) as caught:
        read_engine(source)
    assert section in (None, caught.value.section)
    return caught.value


def assert_is_sample(contents: EngineContents) -> None:
    """Everything in SOUND came back."""
    graph = sample_graph()
    assert contents.manifest == sample_manifest()
    assert contents.graph.model == graph.model
    assert {name: bytes(plan) for name, plan in contents.plans.items()} == PLANS
    assert [(w.name, w.dtype, w.shape) for w in contents.graph.weights] == [
        (w.name, w.dtype, w.shape) for w in graph.weights
    ]
    np.testing.assert_array_equal(contents.graph.weights[0].array, W)


def make(
    weights: Any = None, manifest: Any = None, model: bytes | None = None, data: bytes | None = None, **more: bytes
) -> bytes:
    """A file with right sizes and checksums that says whatever it is told to say."""
    sections = {
        "manifest": strict_json.dump(manifest_to_json(sample_manifest())) if manifest is None else manifest,
        "graph": sample_graph().model if model is None else model,
        "weights": W.tobytes() if data is None else data,
        **more,
    }
    header = {"weights": [ENTRY] if weights is None else weights}
    return b"".join(container.encode(header, {name: [memoryview(content)] for name, content in sections.items()}))
