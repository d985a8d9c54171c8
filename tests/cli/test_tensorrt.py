"""The command line and TensorRT's plans. Those that build one are skipped without TensorRT."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from backends.tensorrt.packages_here import needs_tensorrt
from onnx import TensorProto, helper
from runtime.tensorrt.test_plan import PLAN

from trine.cli import doctor
from trine.cli.failures import ExitCode
from trine.engine.format import read_engine, write_engine
from trine.errors import MissingDependencyError
from trine.runtime.tensorrt import packages


@pytest.fixture
def tensorrt_file(engine_file: Path, in_folder: Path) -> Path:
    """The engine for CPUs, with a plan of TensorRT's that is described, not run."""
    contents = read_engine(engine_file)
    path = in_folder / "tensorrt.trine"
    layer = {**PLAN.layers[0], "name": "<conv> & relu"}
    plan = dataclasses.replace(PLAN, layers=(layer,))
    write_engine(path, contents.manifest, contents.graph, {**contents.plans, "tensorrt": plan.to_bytes()})
    return path


def test_inspect(trine, tensorrt_file: Path) -> None:
    result = trine("inspect", tensorrt_file)
    assert result.code == 0, result.err
    assert "TensorRT  tensorrt_rtx 1.7, fp16 for sm_86: 1 layers, 8 B" in result.out
    assert "<conv>" not in result.out
    listed = trine("inspect", tensorrt_file, "--layers").out
    assert "<conv> & relu" in listed


def test_json(trine, tensorrt_file: Path) -> None:
    (plan,) = json.loads(trine("inspect", tensorrt_file, "--json").out)["tensorrt"]
    found = [plan[key] for key in ("package", "version", "precision", "plan_bytes")]
    assert found == ["tensorrt_rtx", "1.7", "fp16", 8]
    assert plan["layers"][0]["nodes"] == ["conv"]


def test_html(trine, tensorrt_file: Path) -> None:
    assert trine("inspect", tensorrt_file, "--html=page.html", "-q").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "TensorRT's plan" in page
    assert "Built by <b>tensorrt_rtx 1.7</b> in fp16, for sm_86: 1 layers, 8 B." in page
    assert "&lt;conv&gt; &amp; relu" in page
    assert "<conv>" not in page


def test_a_damaged_plan_is_an_engine_file_failure(trine, engine_file: Path, in_folder: Path) -> None:
    contents = read_engine(engine_file)
    plans = {**contents.plans, "tensorrt": PLAN.to_bytes()[:30]}
    write_engine(in_folder / "damaged.trine", contents.manifest, contents.graph, plans)
    result = trine("inspect", "damaged.trine")
    assert result.code == ExitCode.ENGINE_FILE
    assert "plan/tensorrt: damaged plan" in result.err


def test_asked_for_without_a_gpu(trine, tensorrt_file: Path) -> None:
    result = trine("run", tensorrt_file, "--device=tensorrt")
    assert result.code in (ExitCode.DEVICE, ExitCode.MISSING_PACKAGE)
    assert "libcuda" in result.err or "cuda-bindings" in result.err or "TensorRT" in result.err
    assert trine("run", tensorrt_file, "--device=cpu", "--json").code == 0


def test_doctor_without_the_package(trine, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(wanted: str | None = None) -> packages.TensorRT:
        raise MissingDependencyError(f"needs TensorRT: {packages.INSTALL}", name="tensorrt_rtx")

    monkeypatch.setattr(packages, "installed_tensorrt", none)
    found = doctor._tensorrt()
    assert (found["package"], found["install"]) == (None, "pip install 'trine[tensorrt-rtx]'")
    out = trine("doctor").out
    assert "TensorRT\n  not installed" in out
    assert "trine[tensorrt-rtx]" in out


def test_a_build_without_the_package_leaves_no_file(
    trine, model_file: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    result = trine("build", model_file, "--device=tensorrt", "-o", "out.trine")
    assert result.code == ExitCode.MISSING_PACKAGE
    assert "pip install 'trine[tensorrt-rtx]'" in result.err
    assert list(in_folder.iterdir()) == []


@needs_tensorrt
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_build(trine, model_file: Path, in_folder: Path, precision: str) -> None:
    result = trine(
        "build", model_file, "--device=tensorrt", "--precision", precision, "--batch=1:2:4", "--tactics=onnxruntime",
        "-o", "out.trine",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert f"tensorrt_rtx {precision} (built, not run)" in result.out
    assert [path.name for path in in_folder.iterdir()] == ["out.trine"]
    listed = trine("inspect", "out.trine", "--layers").out
    assert re.search(rf"TensorRT  tensorrt_rtx 1\.[\d.]+, {precision}: \d+ layers", listed)
    assert "built, not run: " in listed
    summary = trine("build", model_file, "--device=tensorrt", "-o", "again.trine", "--tactics=onnxruntime", "--json")
    (plan,) = json.loads(summary.out)["tensorrt"]
    assert plan["plan_bytes"] > 1000


@needs_tensorrt
def test_refused_nodes_are_all_named_and_no_file_is_left(trine, in_folder: Path) -> None:
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
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "model.onnx")
    Path("out.trine").write_bytes(b"an older engine")
    result = trine("build", "model.onnx", "--device=tensorrt", "-o", "out.trine")
    assert result.code == ExitCode.IMPORT
    assert "refuses the graph" in result.err
    for name, operator in (("first", "Det"), ("second", "Unique")):
        assert f"{operator} '{name}'" in result.err
    assert sorted(path.name for path in in_folder.iterdir()) == ["model.onnx", "out.trine"]
    assert Path("out.trine").read_bytes() == b"an older engine"


@needs_tensorrt
def test_a_builder_that_fails_says_why_and_leaves_no_file(trine, in_folder: Path) -> None:
    """A Reshape that fits two rows only, and a profile of one to four: the parser takes it, the builder does not."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([2, 3]), "shape")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "model.onnx")
    result = trine("build", "model.onnx", "--device=tensorrt", "--batch=1:3:4", "-o", "out.trine")
    assert result.code == ExitCode.BUILD
    assert "could not build the network" in result.err
    assert "violate shape constraints" in result.err
    assert [path.name for path in in_folder.iterdir()] == ["model.onnx"]


@needs_tensorrt
def test_doctor(trine) -> None:
    found = json.loads(trine("doctor", "--json").out)["tensorrt"]
    assert found["package"] == "tensorrt_rtx"
    assert found["version"].startswith("1.")
    assert f"tensorrt_rtx {found['version']}" in trine("doctor").out
