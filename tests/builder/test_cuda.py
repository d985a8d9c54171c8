"""Builds for GPUs of models with operators that have no kernels, on a machine without a GPU."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from pass_checks import build as onnx_model
from pass_checks import run
from runtime.cuda.recording_driver import RecordingDriver

import trine
from trine.backends.cuda import device_timer
from trine.engine.inspect_cuda import inspect_cuda_plans
from trine.errors import MissingDependencyError, NoDeviceError, UnsupportedError
from trine.runtime.cuda import driver as driver_module

ONE = np.array(1, np.int64)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without one, so that these tests do the same everywhere."""

    def driver(ordinal: int = 0) -> None:
        raise NoDeviceError("no NVIDIA driver (libcuda) is installed here")

    for module in (driver_module, device_timer):
        monkeypatch.setattr(module, "Driver", driver)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def test_a_gpu_that_is_not_here() -> None:
    text = r'device="cuda": no NVIDIA driver .*\. To build for another GPU, name its architecture: target="sm_90"'
    with pytest.raises(NoDeviceError, match=text):
        trine.build(mixed().SerializeToString(), device="cuda")


@pytest.mark.parametrize("capability", [75, 120])
def test_a_gpu_without_kernels(monkeypatch: pytest.MonkeyPatch, capability: int) -> None:
    monkeypatch.setattr(device_timer, "Driver", lambda ordinal=0: RecordingDriver(capability=capability))
    text = rf'an sm_{capability}, and engines can .* only; build with device="cpu"\. To build for another GPU'
    with pytest.raises(NoDeviceError, match=text):
        trine.build(mixed().SerializeToString(), device="cuda")


def test_without_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    def driver(ordinal: int = 0) -> None:
        raise MissingDependencyError("running on an NVIDIA GPU needs cuda-bindings", name="cuda.bindings")

    monkeypatch.setattr(device_timer, "Driver", driver)
    with pytest.raises(MissingDependencyError, match="needs cuda-bindings") as caught:
        trine.build(mixed().SerializeToString(), device="cuda")
    assert caught.value.name == "cuda.bindings"


def mixed() -> onnx.ModelProto:
    """Two kernels' worth on both sides of what has none."""
    body = "a = Relu(x)\nb = CumSum(a, one)\nc, i = TopK(a, k)\nd = ReduceSum(c, axis)\ne = Add(b, d)\ny = Tanh(e)"
    return onnx_model("float[batch,6] x", "float[batch,6] y", body, 20, one=ONE, k=np.array([2]), axis=np.array([1]))


def test_a_mixed_engine(kernels: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    proto = mixed()
    engine = trine.build(proto.SerializeToString(), target="sm_90", batch=(1, 2, 4), kernel_cache=kernels)
    (text,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "2 nodes run on the CPU, in 1 step a call, each of which waits for the GPU and copies (CumSum, TopK)" in text
    assert "node_1 (CumSum): the operator has no kernels" in text
    assert "cpu_fallback=False (--noCpuFallback) makes this an error" in text
    assert engine.manifest.evidence is not None
    assert engine.manifest.evidence["passed"], "on the reference device"
    (plan,) = inspect_cuda_plans(engine.plans)
    (part,) = plan["cpu_parts"]
    assert part["operators"] == {"CumSum": 1, "TopK": 1}
    assert [node["name"] for node in part["nodes"]] == ["node_1", "node_2"]
    assert [bucket["cpu_steps"] for bucket in plan["buckets"]] == [1, 1, 1]
    assert [group["kind"] for group in plan["buckets"][0]["groups"]].count("CPU") == 1
    engine.save(tmp_path / "mixed.trine")
    x = np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)
    with trine.load(tmp_path / "mixed.trine") as loaded:
        np.testing.assert_allclose(loaded(x), run(proto, {"x": x})[0], rtol=1e-5, atol=1e-6)


def test_it_can_be_refused() -> None:
    with pytest.raises(
        UnsupportedError, match=r"2 nodes cannot run in the CUDA backend: node_1 \(CumSum\).*; cpu_fallback=True"
    ):
        trine.build(mixed().SerializeToString(), target="sm_90", batch=(1, 2, 4), cpu_fallback=False)


def test_nothing_for_the_gpu(caplog: pytest.LogCaptureFixture) -> None:
    proto = onnx_model("float[batch,6] x", "float[batch,6] y", "y = CumSum(x, one)", 20, one=ONE)
    engine = trine.build(proto.SerializeToString(), target="sm_90", precision="fp16", batch=(1, 2, 4))
    assert set(engine.plans) == {"cpu"}
    assert (engine.device, engine.manifest.precision, engine.manifest.build["device"]) == ("cpu", "fp32", "cpu")
    assert "none of its operators has kernels for GPUs; building for the CPU, in fp32" in caplog.text
    with pytest.raises(UnsupportedError):
        trine.build(proto.SerializeToString(), target="sm_90", batch=(1, 2, 4), cpu_fallback=False)


def chosen() -> onnx.ModelProto:
    """As a detector ends: which rows are left depends on values."""
    body = (
        "a = MatMul(x, m)\ns = Sigmoid(a)\nq = Greater(s, half)\np = NonZero(q)\nt = Transpose(p)\n"
        "found = GatherND(s, t)\nwhere = Identity(t)"
    )
    m = np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32)
    return onnx_model(
        "float[2,6] x", "float[count] found, int64[count,2] where, float[2,6] s", body, 20, m=m, half=np.float32(0.5)
    )


def test_outputs_whose_shapes_depend_on_values(kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = trine.build(chosen().SerializeToString(), target="sm_90", kernel_cache=kernels)
    assert engine.manifest.evidence is not None
    assert engine.manifest.evidence["passed"]
    engine.save(tmp_path / "chosen.trine")
    driver = RecordingDriver()
    monkeypatch.setattr(driver_module, "Driver", lambda ordinal=0: driver)
    with trine.load(tmp_path / "chosen.trine") as loaded:  # kernels do nothing there: what they would have made is 0
        assert loaded.device == "cuda:0"
        answers = loaded(np.zeros((2, 6), np.float32))
    assert [answer.shape for answer in answers] == [(0,), (0, 2), (2, 6)]
    assert driver.nothing_is_held()
