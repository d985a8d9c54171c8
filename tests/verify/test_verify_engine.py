"""``trine.verify`` with every kind of model and input, on an engine whose answers are computed in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import trine.verify
from trine import structure
from trine.dtypes import DataType
from trine.engine.manifest import Manifest, TensorInfo
from trine.errors import ConfigError, InputError
from trine.profile import OptimizationProfile, ShapeRange
from trine.verify.verify_engine import reference_of, verify

Arrays = Mapping[str, Any]


class PlainContext:
    def __init__(self, function: Callable[[Arrays], dict[str, Any]]) -> None:
        self.execute = function

    def __enter__(self) -> PlainContext:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class PlainEngine:
    """All that verify needs of an engine, with answers that a test decides."""

    def __init__(self, function: Callable[[Arrays], dict[str, Any]], input_structure: Any = None) -> None:
        self.function = function
        self.manifest = Manifest(
            name="linear",
            source="test",
            inputs=(TensorInfo("x", DataType.FLOAT32, ("batch", 6)),),
            outputs=(TensorInfo("output", DataType.FLOAT32, ("batch", 5)),),
            profile=OptimizationProfile({"x": ShapeRange((1, 6), (4, 6), (8, 6))}),
            input_structure=input_structure,
        )

    def create_execution_context(self) -> PlainContext:
        return PlainContext(self.function)


class Classifier(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(6, 5)
        self.dropout = torch.nn.Dropout(0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.linear(x))


MODULE = Classifier()
WEIGHT, BIAS = (p.detach().numpy() for p in MODULE.linear.parameters())
CALL, _ = structure.describe(torch.zeros(1), torch.is_tensor, "x")
CALL = {"kind": "call", "parameters": [{"name": "x", "form": "positional", "value": CALL}]}
X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def right(inputs: Arrays) -> dict[str, Any]:
    return {"output": inputs["x"] @ WEIGHT.T + BIAS}


def wrong(inputs: Arrays) -> dict[str, Any]:
    return {"output": right(inputs)["output"] * 1.01}


@pytest.mark.parametrize("call", [None, CALL])
def test_a_module_in_training_mode_is_judged_in_eval_and_left_as_it_was(call: Any) -> None:
    MODULE.train()
    report = verify(PlainEngine(right, call), MODULE, X)  # type: ignore[arg-type]
    assert report.passed, str(report)
    assert MODULE.training
    assert MODULE.dropout.training
    assert report.top1_agreement == 1.0
    assert not verify(PlainEngine(wrong, call), MODULE, X).passed  # type: ignore[arg-type]


def test_the_package_itself_is_the_function() -> None:
    assert trine.verify(PlainEngine(right), MODULE, X).passed  # type: ignore[operator]
    assert trine.verify(PlainEngine(wrong), MODULE, X, tolerance=0.1).passed  # type: ignore[operator]


@pytest.mark.parametrize(
    "inputs",
    [X, (X,), {"x": X}, torch.from_numpy(X), [X, X[:1]], [{"x": X}, (torch.from_numpy(X[:2]),)]],
    ids=["array", "tuple", "dict", "torch", "list", "mixed list"],
)
@pytest.mark.parametrize("call", [None, CALL])
def test_inputs_of_every_kind(inputs: Any, call: Any) -> None:
    report = verify(PlainEngine(right, call), MODULE, inputs)  # type: ignore[arg-type]
    assert report.passed
    assert len(report.rows) == (len(inputs) if isinstance(inputs, list) else 1)
    assert report.seed is None


def test_random_inputs_when_there_are_none() -> None:
    report = verify(PlainEngine(right), MODULE, seed=5)  # type: ignore[arg-type]
    assert [row.case for row in report.rows] == ["min", "opt", "max"]
    assert report.seed == 5
    assert report.row_independence is not None


@pytest.mark.parametrize(
    "model",
    [
        right,
        lambda inputs: right(inputs)["output"],
        lambda inputs: (right(inputs)["output"],),
        lambda inputs: {"scores": right(inputs)["output"]},
        lambda inputs: torch.from_numpy(right(inputs)["output"]),
    ],
    ids=["by name", "array", "tuple", "another name", "torch"],
)
def test_callables(model: Any) -> None:
    assert verify(PlainEngine(right), model, X).passed  # type: ignore[arg-type]
    assert not verify(PlainEngine(wrong), model, X).passed  # type: ignore[arg-type]


def test_refusals() -> None:
    engine: Any = PlainEngine(right)
    with pytest.raises(ConfigError, match="empty list"):
        verify(engine, MODULE, [])
    with pytest.raises(ConfigError, match=r"expected 1 arrays \(x\), got 2; several calls go in a list"):
        verify(engine, MODULE, (X, X))
    with pytest.raises(ConfigError, match=r"expected an nn\.Module, a path or bytes of ONNX, or a callable"):
        reference_of(3, engine, {"x": X})
    with pytest.raises(ConfigError, match="gives 2 outputs; the engine has 1"):
        verify(engine, lambda inputs: (X, X), X)
    with pytest.raises(ConfigError, match=r"expected an engine, got str; open a file with trine\.load first"):
        verify("net.trine", MODULE, X)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"Conv2d itself fails on the engine's inputs \(x: float32\[4, 6\]\): RuntimeError"
    ):
        verify(engine, torch.nn.Conv2d(1, 1, 1), X)
    structured: Any = PlainEngine(right, CALL)
    with pytest.raises(InputError, match="unknown"):
        verify(structured, MODULE, {"x": X, "y": X})


def onnx_bytes(input_name: str = "x") -> bytes:
    node = helper.make_node("Gemm", [input_name, "weight", "bias"], ["scores"], transB=1)
    graph = helper.make_graph(
        [node],
        "linear",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized


@pytest.mark.parametrize("input_name", ["x", "pixels"])
def test_onnx_by_bytes_and_path(tmp_path: Path, input_name: str) -> None:
    path = tmp_path / "linear.onnx"
    path.write_bytes(onnx_bytes(input_name))
    for model in (onnx_bytes(input_name), path, str(path)):
        assert verify(PlainEngine(right), model, [X, X[:1]]).passed  # type: ignore[arg-type]
        assert not verify(PlainEngine(wrong), model, X).passed  # type: ignore[arg-type]
