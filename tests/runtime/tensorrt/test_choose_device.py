"""Which engine files run their TensorRT plan, and what is said where they do not."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.test_choose_device import manifest
from runtime.tensorrt.stand_in import package
from runtime.tensorrt.test_executor import PLAN, X, Y

import trine
from trine.engine.format import write_engine
from trine.errors import EngineFormatError, MissingDependencyError, NoDeviceError
from trine.runtime.cuda import driver as driver_module
from trine.runtime.tensorrt import choose_device
from trine.runtime.tensorrt.choose_device import open_on_tensorrt

MANIFEST = dataclasses.replace(manifest(), inputs=(X,), outputs=(Y,))
PLANS = {"tensorrt": PLAN.to_bytes()}


def no_gpu(ordinal: int = 0) -> Any:
    raise NoDeviceError("no NVIDIA driver (libcuda) is installed here")


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_another_device_does_not_read_it(device: str) -> None:
    assert open_on_tensorrt(device, {"tensorrt": b"damaged"}, MANIFEST) is None


def test_an_engine_without_one_is_left_alone_or_refused() -> None:
    assert open_on_tensorrt(None, {}, MANIFEST) is None
    with pytest.raises(NoDeviceError, match=r'build the model with device="tensorrt"'):
        open_on_tensorrt("tensorrt", {}, MANIFEST)


def test_without_a_gpu_the_log_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(driver_module, "Driver", no_gpu)
    with caplog.at_level(logging.INFO, "trine"):
        assert open_on_tensorrt(None, PLANS, MANIFEST) is None
    assert "its TensorRT plan does not run here (no NVIDIA driver" in caplog.text
    with pytest.raises(NoDeviceError, match="libcuda"):
        open_on_tensorrt("tensorrt", PLANS, MANIFEST)


def test_without_the_package_the_gpu_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = RecordingDriver()
    monkeypatch.setattr(driver_module, "Driver", lambda ordinal: driver)
    plans = {"tensorrt": dataclasses.replace(PLAN, package="tensorrt").to_bytes()}
    with pytest.raises(MissingDependencyError, match="the plan was built by tensorrt, which is not here"):
        open_on_tensorrt("tensorrt", plans, MANIFEST)
    assert driver.count("close") == 1


def test_with_both_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = RecordingDriver()
    verified: list[str] = []
    monkeypatch.setattr(driver_module, "Driver", lambda ordinal: driver)
    monkeypatch.setattr(choose_device, "installed_tensorrt", lambda name: package(driver))
    opened = open_on_tensorrt(None, PLANS, MANIFEST, verified.append)
    assert opened is not None
    assert verified == ["plan/tensorrt"]
    (y,) = opened[1].open_session().run([np.ones((2, 300), np.float32)], [None])
    assert y.sum() == 1200


def found(monkeypatch: pytest.MonkeyPatch, **options: Any) -> RecordingDriver:
    """A GPU, and a package that lists what it supports."""
    driver = RecordingDriver()
    monkeypatch.setattr(driver_module, "Driver", lambda ordinal: driver)
    monkeypatch.setattr(choose_device, "installed_tensorrt", lambda name: package(driver, **options))
    return driver


def test_a_gpu_that_the_package_does_not_support_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = found(monkeypatch, capabilities=(75, 86, 120))
    says = r"tensorrt_rtx 1\.7 does not support .* of compute capability 9\.0; it supports 7\.5, 8\.6, 12\.0"
    with pytest.raises(NoDeviceError, match=says):
        open_on_tensorrt("tensorrt", PLANS, MANIFEST)
    with caplog.at_level(logging.INFO, "trine"):
        assert open_on_tensorrt(None, PLANS, MANIFEST) is None
    assert "compute capability 9.0" in caplog.text
    assert driver.count("close") == 2
    found(monkeypatch, capabilities=(75, 90))
    assert open_on_tensorrt("tensorrt", PLANS, MANIFEST) is not None


def test_another_version_of_the_package_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = found(monkeypatch)
    plans = {"tensorrt": dataclasses.replace(PLAN, version="1.6").to_bytes()}
    assert open_on_tensorrt(None, plans, MANIFEST) is None
    with pytest.raises(MissingDependencyError, match=r"tensorrt-rtx-cu13-bindings==1\.6 tensorrt-rtx-cu13-libs==1\.6"):
        open_on_tensorrt("tensorrt", plans, MANIFEST)
    assert driver.count("close") == 2


def test_without_a_gpu_its_bytes_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "Driver", no_gpu)
    verified: list[str] = []
    assert open_on_tensorrt(None, {"tensorrt": b"damaged"}, MANIFEST, verified.append) is None
    assert verified == []


def test_a_damaged_plan_is_an_error_and_the_gpu_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = found(monkeypatch)
    for device in ("tensorrt", None):
        with pytest.raises(EngineFormatError, match="plan/tensorrt: damaged plan"):
            open_on_tensorrt(device, {"tensorrt": b"damaged"}, MANIFEST)
    assert driver.count("close") == 2


def test_an_engine_is_run_by_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the file to the answer, as ``trine.load`` does it; damage to the plan alone leaves the CPU's usable."""
    driver = found(monkeypatch)
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 300]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    on_cpu = trine.build(model.SerializeToString(), tactics=("onnxruntime",))
    path = tmp_path / "net.trine"
    write_engine(path, on_cpu.manifest, on_cpu.graph, {**on_cpu.plans, **PLANS})
    x = np.random.default_rng(0).random((3, 300), np.float32)
    for device in ("tensorrt", None):
        engine = trine.load(path, device=device)
        assert (engine.device, engine.tactic) == ("tensorrt", "tensorrt_rtx")
        np.testing.assert_array_equal(engine(x), 2 * x)
    assert driver.count("upload") == 2
    np.testing.assert_array_equal(trine.load(path, device="cpu")(x), 2 * x)

    data = bytearray(path.read_bytes())
    data[data.index(b"TRNTRT01") + 30] ^= 1
    path.write_bytes(data)
    for device in ("tensorrt", None):
        with pytest.raises(EngineFormatError, match="plan/tensorrt"):
            trine.load(path, device=device)
    np.testing.assert_array_equal(trine.load(path, device="cpu")(x), 2 * x)
