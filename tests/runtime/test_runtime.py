import copy
import json
import logging
import pickle
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch

import trine
from trine.engine.format import engine_to_bytes
from trine.runtime.cpu import CpuPlan


@pytest.fixture(scope="module")
def engine():
    torch.manual_seed(0)
    return trine.build(torch.nn.Linear(3, 5).eval(), torch.randn(2, 3))


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def with_plan(engine, plan: bytes) -> bytes:
    return engine_to_bytes(engine.manifest, engine.graph, {"cpu": plan})


def plan_of(engine, **changes) -> bytes:
    return json.dumps(json.loads(engine.plan.to_bytes()) | changes).encode()


def test_a_file_answers_as_the_engine_did(engine, tmp_path):
    engine.save(tmp_path / "net.trine")
    with trine.load(tmp_path / "net.trine") as loaded:
        np.testing.assert_array_equal(loaded(X), engine(X))
        assert loaded.manifest == engine.manifest
    np.testing.assert_array_equal(trine.load(str(tmp_path / "net.trine"))(X), engine(X))


def test_bytes_answer_as_the_engine_did(engine):
    np.testing.assert_array_equal(trine.load(engine.serialize())(X), engine(X))


def test_a_process_that_runs_imports_no_builder(engine, tmp_path):
    engine.save(tmp_path / "net.trine")
    code = f"""
        import sys, numpy as np, trine
        y = trine.load({str(tmp_path / "net.trine")!r})(np.ones((1, 3), np.float32))
        assert y.shape == (1, 5)
        heavy = {{"torch", "onnx", "onnx_ir", "onnxscript", "triton", "trine.builder", "trine.importers"}}
        print(sorted(heavy & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_a_plan_from_elsewhere_is_recompiled_and_says_so(engine, caplog):
    plan = plan_of(engine, cpu="Some Other CPU", versions={engine.tactic: "0.1"})
    with caplog.at_level(logging.INFO, "trine"):
        loaded = trine.load(with_plan(engine, plan))
    np.testing.assert_allclose(loaded(X), engine(X), rtol=1e-5)
    assert "recompiling from the graph: built on 'Some Other CPU'" in caplog.text
    assert f"built with {engine.tactic} 0.1" in caplog.text


def test_an_engine_without_a_plan_for_this_device_is_compiled(engine, caplog):
    loaded = trine.load(engine_to_bytes(engine.manifest, engine.graph, {}))
    np.testing.assert_allclose(loaded(X), engine(X), rtol=1e-5)
    assert "no plan for CPUs" in caplog.text


def test_a_missing_backend_is_replaced_by_the_other(engine, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    plan = plan_of(engine, tactic="openvino", options={"precision": "fp32"})
    loaded = trine.load(with_plan(engine, plan))
    assert loaded.tactic == "onnxruntime"
    assert "pip install openvino" in caplog.text
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(trine.MissingDependencyError, match="pip install"):
        trine.load(with_plan(engine, plan))


def test_threads_can_be_chosen_when_loading(engine):
    assert trine.load(engine.serialize(), threads=1).plan.threads == 1


@pytest.mark.parametrize(
    "plan",
    [b"", b"[]", b"{}", b"\xff", b"[" * 100_000]
    + [
        json.dumps({"tactic": "openvino", "threads": 0, "options": {}, "cpu": "", "versions": {}} | change).encode()
        for change in (
            {"threads": -1},
            {"threads": True},
            {"threads": 10**6},
            {"tactic": None},
            {"options": ["precision"]},
            {"versions": 3},
        )
    ],
)
def test_a_plan_of_garbage_is_refused(engine, plan):
    with pytest.raises(trine.EngineFormatError, match="plan/cpu") as caught:
        trine.load(with_plan(engine, plan))
    assert caught.value.section == "plan/cpu"


@pytest.mark.parametrize(
    "change",
    [
        {"tactic": "exec"},
        {"options": {"precision": "int8"}},
        {"options": {"precision": ["fp32"]}},
        {"options": {"library": "/tmp/x.so"}},
        {"extra": 1},
    ],
)
@pytest.mark.parametrize("tiered", [False, True])
def test_a_plan_of_a_newer_trine_is_made_anew(engine, change, tiered, caplog):
    fields = {"tactic": "openvino", "threads": 1, "options": {}, "cpu": "", "versions": {}} | change
    loaded = trine.load(with_plan(engine, json.dumps(fields).encode()), tiered=tiered)
    assert "no plan for CPUs that this trine knows; compiling its graph in fp32" in caplog.text
    assert loaded.tactic in ("openvino", "onnxruntime")
    np.testing.assert_allclose(loaded(X), engine(X), rtol=1e-5, atol=1e-6)


def test_plan_round_trip():
    plan = CpuPlan("openvino", 2, {"precision": "fp32"}, "a cpu", {"openvino": "1"})
    assert CpuPlan.from_bytes(plan.to_bytes()) == plan


def test_an_engine_that_another_thread_closes_stays_closed(engine):
    loaded, failures = trine.load(engine.serialize()), []

    def call():
        try:
            while True:
                loaded(X)
        except trine.TrineError as err:
            failures.append(err)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    loaded.close()
    for thread in threads:
        thread.join(timeout=30)
    assert [type(err) for err in failures] == [trine.InputError] * 3
    assert all("this engine is closed" in str(err) for err in failures)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_an_engine_is_not_copied(engine, copied):
    with pytest.raises(TypeError, match=r"cannot be pickled or copied.*engine.serialize\(\)"):
        copied(engine)


@pytest.mark.parametrize("threads", [-1, "2", 1.5, 5000])
def test_threads_that_are_no_number_of_them(engine, threads):
    with pytest.raises(trine.ConfigError, match="threads: expected a whole number up to 4096"):
        trine.load(engine.serialize(), threads=threads)


def test_a_closed_engine_says_so(engine):
    loaded = trine.load(engine.serialize())
    loaded(X)
    loaded.close()
    loaded.close()
    with pytest.raises(trine.InputError, match="closed"):
        loaded(X)


def test_calls_with_names_and_with_too_many(engine):
    np.testing.assert_array_equal(engine(input=X), engine(X))
    np.testing.assert_array_equal(engine({"input": X}), engine(X))
    with pytest.raises(trine.InputError):
        engine(X, X)
    with pytest.raises(trine.InputError):
        engine(X, input=X)
