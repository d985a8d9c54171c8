"""Which engine files run their TensorRT plan, and what is said where they do not."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.test_choose_device import manifest
from runtime.tensorrt.stand_in import package
from runtime.tensorrt.test_executor import PLAN, X, Y

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


def test_a_damaged_plan_is_an_error() -> None:
    with pytest.raises(EngineFormatError):
        open_on_tensorrt("tensorrt", {"tensorrt": b"damaged"}, MANIFEST)
