"""Plans built by the real TensorRT for RTX, without a GPU: its layers and its verdicts beside ours."""

from __future__ import annotations

from ctypes.util import find_library
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from backends.tensorrt.packages_here import tensorrt_or_skip
from onnx import TensorProto, helper
from runtime.cuda.recording_driver import RecordingDriver
from torch import nn

import trine
from trine.backends.tensorrt.build import build_tensorrt_plan, parser_verdict
from trine.engine.manifest import TensorInfo
from trine.engine.onnx_reader import read_graph
from trine.engine.portable_graph import PortableGraph
from trine.errors import ConfigError, NoDeviceError, UnsupportedError
from trine.profile import OptimizationProfile, ShapeRange
from trine.runtime.tensorrt.executor import TensorRTExecutor

PACKAGE = tensorrt_or_skip()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.body(x)) + x
        return torch.softmax(self.head(x.mean((2, 3))), 1)


@pytest.fixture(scope="module")
def engine() -> trine.Engine:
    torch.manual_seed(0)
    return trine.build(Block(), (torch.randn(1, 3, 16, 16),), batch=(1, 2, 4))


def tensors_of(engine: trine.Engine) -> tuple[TensorInfo, ...]:
    return (*engine.inputs, *engine.outputs)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_layers_come_from_our_nodes(engine: trine.Engine, precision: str) -> None:
    """Every node that TensorRT says a layer comes from is one of the portable graph's (or a cast), and the large ones
    are all there."""
    plan = build_tensorrt_plan(PACKAGE, engine.graph, tensors_of(engine), engine.profile, precision)
    assert (plan.package, plan.precision) == ("tensorrt_rtx", precision)
    assert len(plan.data) > 1000
    ours = {node.name: node.op for node in read_graph(engine.graph.model).nodes}
    theirs = {node for layer in plan.layers for node in layer["nodes"]}
    assert {name for name in theirs if not name.startswith("cast_to_")} <= ours.keys()
    large = {name for name, op in ours.items() if op in ("Conv", "Gemm", "Softmax")}
    assert large <= theirs
    assert len(plan.layers) < len(ours) + 8  # it fuses too; casts and reformats may come in
    types = {text.split()[1] for layer in plan.layers for text in layer["outputs"]}
    narrow = {"fp16": {"Half"}, "bf16": {"BFloat16"}}.get(precision, set())
    assert types == {"Float"} | narrow


def test_a_target_is_one_that_the_package_builds_for(engine: trine.Engine) -> None:
    assert (
        build_tensorrt_plan(PACKAGE, engine.graph, tensors_of(engine), engine.profile, "fp16", "sm_86").target
        == "sm_86"
    )
    with pytest.raises(ConfigError, match=r"does not build for 'sm_90'; allowed: .*sm_86"):
        build_tensorrt_plan(PACKAGE, engine.graph, tensors_of(engine), engine.profile, "fp16", "sm_90")


def one(op: str, inputs: dict[str, list[int | str]], dtype: int = TensorProto.FLOAT, **attributes: Any) -> bytes:
    graph = helper.make_graph(
        [helper.make_node(op, list(inputs), ["y"], name=f"the_{op}", **attributes)],
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", dtype, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


# Whether TensorRT's parser takes the operator; trine takes all of them on a CPU.
VERDICTS = {
    "Relu": (one("Relu", {"x": ["b", 3]}), True),
    "Gelu": (one("Gelu", {"x": ["b", 3]}), True),
    "Celu": (one("Celu", {"x": ["b", 3]}), True),
    "Det": (one("Det", {"x": [2, 3, 3]}), False),
    "Unique": (one("Unique", {"x": [6]}), False),
    "BitwiseAnd": (one("BitwiseAnd", {"x": [6], "z": [6]}, TensorProto.INT32), False),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts_beside_ours(name: str) -> None:
    data, theirs = VERDICTS[name]
    verdict = parser_verdict(PACKAGE, data)
    assert (verdict == []) == theirs, verdict
    assert theirs or any(f"the_{name}" in reason for reason in verdict)
    assert trine.build(data, verify=False).plans.keys() == {"cpu"}


def test_all_refused_nodes_are_named_at_once() -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["y"], name="first"),
        helper.make_node("Unique", ["y"], ["z"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    profile = OptimizationProfile({"x": ShapeRange((2, 3, 3), (2, 3, 3), (2, 3, 3))})
    with pytest.raises(UnsupportedError, match=r"(?s)tensorrt_rtx 1\..*Det 'first'.*Unique 'second'"):
        build_tensorrt_plan(PACKAGE, PortableGraph(model.SerializeToString()), (), profile, "fp32")


def test_bytes_that_are_no_model_have_a_reason() -> None:
    assert "DESERIALIZE" in parser_verdict(PACKAGE, b"garbage")[0]


def test_values_beyond_fp16_are_infinite_not_wrong() -> None:
    from trine.backends.tensorrt.precision import cast_model

    weight = onnx.numpy_helper.from_array(np.full((3, 1), 1e6, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    cast = onnx.load_from_string(cast_model(model.SerializeToString(), "fp16"))
    assert np.isinf(onnx.numpy_helper.to_array(cast.graph.initializer[0])).all()


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL])
def test_a_type_that_it_takes_for_another_is_refused(dtype: int) -> None:
    """TensorRT makes float32 of float64 and warns in its log; a caller's arrays would be read as what they are not."""
    data = one("Identity", {"x": ["b", 3]}, dtype)
    assert parser_verdict(PACKAGE, data) == []
    if dtype != TensorProto.DOUBLE:
        assert trine.build(data, device="tensorrt", tactics=("onnxruntime",)).plans.keys() == {"cpu", "tensorrt"}
        return
    with pytest.raises(UnsupportedError, match="'x' is float64, and FLOAT to TensorRT; 'y' is float64") as caught:
        trine.build(data, device="tensorrt")
    assert len(caught.value.problems) == 2


def test_the_real_runtime_refuses_where_no_gpu_is(engine: trine.Engine) -> None:
    """As far as a plan comes here: TensorRT reads it, and says that there is no driver under it."""
    if find_library("cuda") is not None:
        pytest.skip("an NVIDIA driver is here")
    plan = build_tensorrt_plan(PACKAGE, engine.graph, tensors_of(engine), engine.profile, "fp16")
    with pytest.raises(NoDeviceError, match=r"does not take the plan.*(?s:.*)CUDA driver"):
        TensorRTExecutor(plan, PACKAGE, engine.inputs, engine.outputs, RecordingDriver())
