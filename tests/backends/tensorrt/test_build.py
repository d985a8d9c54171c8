"""Plans built by the real TensorRT for RTX, without a GPU: its layers and its verdicts beside ours."""

from __future__ import annotations

from ctypes.util import find_library
from pathlib import Path

import onnx
import pytest
import torch
from backends.tensorrt.networks import NETWORKS, cpu_engine
from backends.tensorrt.operators import one, sample
from backends.tensorrt.packages_here import tensorrt_or_skip
from onnx import TensorProto, helper
from runtime.cuda.recording_driver import RecordingDriver
from torch import nn

import trine
from trine.backends.tensorrt.build import build_tensorrt_plan, parser_verdict
from trine.backends.tensorrt.precision import MOVING_OPERATORS, NARROW_OPERATORS, cast_model
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "fp16") for name in NETWORKS), *((name, "bf16") for name in ("mobilenet_v3_small", "language", "lstm"))],
)
def test_networks(name: str, precision: str) -> None:
    """Built whole; the layers come from nodes of the portable graph and from casts, and leave no product out."""
    engine, _, _ = cpu_engine(name)
    plan = build_tensorrt_plan(PACKAGE, engine.graph, tensors_of(engine), engine.profile, precision)
    ours = {node.name: node.op for node in read_graph(engine.graph.model).nodes}
    theirs = {node for layer in plan.layers for node in layer["nodes"]}
    unknown = {node for node in theirs - ours.keys() if not node.startswith("cast_to_")}
    # Attention is one node of ours; ONNX spells it out, by names that begin like this.
    assert {node for node in unknown if not node.startswith("node_")} == set()
    assert not unknown or "Attention" in ours.values()
    # It does not say of the layers of a GRU where they come from.
    assert {node for node, op in ours.items() if op in ("Conv", "Gemm", "LSTM")} <= theirs


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("op", sorted(NARROW_OPERATORS | MOVING_OPERATORS))
def test_the_parser_takes_what_is_cast(op: str, precision: str) -> None:
    data = onnx.load_from_string(cast_model(sample(op), precision))
    assert parser_verdict(PACKAGE, data.SerializeToString()) == []
    (node,) = [node for node in data.graph.node if node.name == "it"]
    is_narrow = any(name.endswith(("__float16", "__bfloat16")) for name in node.input)
    assert is_narrow == (precision != "fp32" and (op, precision) not in (("HardSwish", "bf16"), ("Mish", "bf16")))


def test_trine_uses_what_every_version_of_its_api_has() -> None:
    """The package tensorrt is not here: the names of its versions are, as compat has them."""
    listed: dict[str, dict[str, set[str]]] = {}
    for line in (Path(trine.__file__).parent / "compat/tensorrt/names.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            version = listed.setdefault(line[2:], {})
        elif not line.startswith("#"):
            owner, _, members = line.partition(":")
            version[owner] = set(members.split())
    used = {
        "Builder": "create_network create_builder_config create_optimization_profile build_serialized_network",
        "IBuilderConfig": "profiling_verbosity set_flag clear_flag add_optimization_profile",
        "INetworkDefinition": "num_inputs num_outputs get_input get_output",
        "ITensor": "name dtype shape is_shape_tensor",
        "IOptimizationProfile": "set_shape",
        "OnnxParser": "parse num_errors get_error",
        "ParserError": "code func desc node node_name node_operator",
        "Runtime": "deserialize_cuda_engine",
        "ICudaEngine": "num_io_tensors get_tensor_name get_tensor_dtype create_execution_context",
        "IExecutionContext": "set_input_shape get_tensor_shape set_tensor_address execute_async_v3",
        "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
        "ProfilingVerbosity": "DETAILED",
        "BuilderFlag": "TF32",
        "DataType": "FLOAT HALF BF16 FP8 INT8 INT32 INT64 UINT8 BOOL",
    }
    for name in ("10.0", "10.16", "11.1"):
        missing = [f"{owner}.{each}" for owner in used for each in set(used[owner].split()) - listed[name][owner]]
        assert missing == [], name
    for owner, members in used.items():
        assert all(hasattr(getattr(PACKAGE.module, owner), each) for each in members.split()), owner


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
