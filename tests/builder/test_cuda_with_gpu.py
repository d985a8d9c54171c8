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
from trine.runtime.cuda import executor

MODEL = """<ir_version: 10, opset_import: ["" : 20]>
net (float[n,8] x) => (float[n,4] y) { h = MatMul(x, w)  r = Relu(h)  y = Softmax(r) }"""


class Gpu(RecordingDriver):
    """Each launch takes as long as there are nodes in its graph; kernels compute nothing."""

    def __init__(self, ordinal: int = 0) -> None:
        super().__init__(capacity=400 << 20)
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
