"""A build on a machine with a GPU: kernels are timed, the plan runs there. The GPU is a recording driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from runtime.cuda.recording_driver import RecordingDriver

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

import trine
from trine.backends.cuda import device_timer
from trine.engine.inspector import inspect_engine
from trine.errors import AccuracyError, DeviceMemoryError
from trine.runtime.cuda import executor

MODEL = """<ir_version: 10, opset_import: ["" : 20]>
net (float[n,8] x) => (float[n,4] y) { h = MatMul(x, w)  r = Relu(h)  y = Softmax(r) }"""


class Gpu(RecordingDriver):
    """Each launch takes as long as there are nodes in its graph; kernels compute nothing."""

    room = 400 << 20

    def __init__(self, ordinal: int = 0) -> None:
        super().__init__(capacity=self.room)
        self.last = 1

    def launch(self, executable: Any, stream: Any) -> None:
        super().launch(executable, stream)
        early = sum(node.early for node in executable.graph.nodes)
        self.last = len(executable.graph.nodes) - 0.5 * early

    def elapsed_ms(self, before: Any, after: Any) -> float:
        super().elapsed_ms(before, after)
        return self.last * 1e-3


def model() -> bytes:
    proto = onnx.parser.parse_model(MODEL)
    weights = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return bytes(proto.SerializeToString())


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """Those that the build opens, in order."""
    made: list[Gpu] = []

    def driver(ordinal: int = 0) -> Gpu:
        made.append(Gpu(ordinal))
        return made[-1]

    monkeypatch.setattr(device_timer, "Driver", driver)
    monkeypatch.setattr(executor, "Driver", driver)
    return made


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def test_kernels_are_timed_and_the_plan_runs_there(drivers: list[Gpu], tmp_path: Path) -> None:
    options = {"device": "cuda", "precision": "fp16", "batch": (1, 2, 2), "quick_tuning": True, "verify": False}
    engine = trine.build(model(), timing_cache=tmp_path / "timings.json", **options)
    timer, *others, running = drivers
    assert timer.count("elapsed_ms") > 0
    timings = json.loads((tmp_path / "timings.json").read_text())["timings"]["sm_90"][running.name]
    (plan,) = inspect_engine(engine)["cuda"]
    assert plan["device_name"] == running.name
    assert [bucket["rows"] for bucket in plan["buckets"]] == [1, 2]
    for bucket in plan["buckets"]:
        assert len(timings) >= len(bucket["groups"]) > 1
        assert all(group["latency_us"] > 0 for group in bucket["groups"])
        assert bucket["early"], "its time is less, and it answers the same"
    assert all(driver.nothing_is_held() for driver in (timer, *others))

    assert engine.device == "cuda:0"
    assert engine(np.zeros((2, 8), np.float32)).shape == (2, 4)
    assert running.count("launch") == 1
    engine.close()
    assert running.nothing_is_held()

    trine.build(model(), timing_cache=tmp_path / "timings.json", **options).close()
    again = drivers[len(others) + 2]
    assert again.count("elapsed_ms") == 0, "all timings are remembered"


def assert_freed(drivers: list[Gpu]) -> None:
    """While ``caught`` keeps the error, and so the frames that it went through."""
    assert drivers
    assert all(driver.nothing_is_held() and driver.count("close") == 1 for driver in drivers)


OPTIONS: dict[str, Any] = {"device": "cuda", "batch": (1, 2, 2), "quick_tuning": True}


def test_a_rejected_precision_leaves_the_gpu(
    drivers: list[Gpu], kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    opened = executor.CudaExecutor._upload_weights

    def upload(self: Any, arrays: Any) -> None:
        held.append(sum(driver.used for driver in drivers))
        opened(self, arrays)

    monkeypatch.setattr(executor.CudaExecutor, "_upload_weights", upload)
    with pytest.raises(AccuracyError, match="outside the accuracy budget") as caught:
        trine.build(model(), precision="best", kernel_cache=kernels, **OPTIONS)
    assert_freed(drivers)
    assert caught
    assert sum(used == 0 for used in held) >= 4, "each precision finds the GPU empty"


def test_an_error_while_verifying_leaves_the_gpu(
    drivers: list[Gpu], kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*args: Any) -> None:
        raise DeviceMemoryError("too little for a call")

    monkeypatch.setattr(executor.CudaSession, "run", run)
    monkeypatch.setattr("trine.backends.cuda.early_starts.choose_early_starts", lambda plan, open_plan: plan)
    with pytest.raises(DeviceMemoryError, match="too little for a call") as caught:
        trine.build(model(), precision="fp16", kernel_cache=kernels, **OPTIONS)
    assert_freed(drivers)
    assert caught


def test_too_little_memory_to_time_kernels(
    drivers: list[Gpu], kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of 60 MiB is less than the tuner can begin with."""
    monkeypatch.setattr(Gpu, "room", 60 << 20)
    path = tmp_path / "timings.json"
    with pytest.raises(DeviceMemoryError, match=r"the tuner has 0 \(half of what was free") as caught:
        trine.build(model(), precision="fp16", kernel_cache=kernels, timing_cache=path, **OPTIONS)
    assert_freed(drivers)
    assert caught
    assert not path.exists()
