"""Engine files that hold a plan for GPUs: what is read of them, and what runs, over a recording driver."""

import numpy as np
import pytest
import torch
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, WIDTH, answer, plan, rows_of

import trine
from trine.engine.format import engine_to_bytes, read_engine
from trine.errors import ConfigError, EngineFormatError
from trine.runtime.cuda import driver as driver_module
from trine.runtime.cuda.plan_bytes import plan_to_bytes


@pytest.fixture(scope="module")
def data():
    """The plan for CPUs computes something else, so that answers say who gave them."""
    module = torch.nn.Sequential(torch.nn.Linear(WIDTH, 512), torch.nn.ReLU(), torch.nn.Linear(512, WIDTH)).eval()
    engine = trine.build(module, torch.ones(2, WIDTH), batch=(1, 4, 16))
    return engine_to_bytes(engine.manifest, engine.graph, {**engine.plans, "cuda_sm_90": plan_to_bytes(plan(1, 4, 8))})


@pytest.fixture
def driver(monkeypatch):
    made = RecordingDriver(STAND_INS)
    monkeypatch.setattr(driver_module, "Driver", lambda ordinal=0: made)
    return made


def damaged(data, name):
    """With a flipped byte in the last quarter of a section."""
    contents = read_engine(data)
    section = contents.layout.sections[name]
    changed = bytearray(data)
    changed[section.offset + section.length * 3 // 4] ^= 1
    return bytes(changed)


def test_the_gpu_answers(data, driver):
    x = rows_of(11)
    with trine.load(data) as engine:
        np.testing.assert_array_equal(engine(x), answer(x))
        np.testing.assert_array_equal(engine(torch.from_numpy(x)), answer(x))
        assert (engine.tactic, engine.device) == ("cuda", "cuda:0")
        assert repr(engine).endswith("fp32 by cuda>")
    assert driver.nothing_is_held()


def test_the_cpu_answers_where_it_is_asked(data, driver):
    engine = trine.load(data, device="cpu")
    x = rows_of(2)
    assert not np.array_equal(engine(x), answer(x))
    assert engine.device == "cpu"
    assert "cuda" not in repr(engine)
    assert not driver.calls


def test_capture_reaches_the_contexts(data, driver):
    with trine.load(data, capture="build") as engine:
        engine.create_execution_context()
        assert driver.count("instantiate") == 3
    for device in (None, "cpu"):
        with pytest.raises(ConfigError, match="capture: 'always' is unknown"):
            trine.load(data, device=device, capture="always")


def test_only_what_runs_is_read(data, driver):
    x = rows_of(2)
    on_cpu = trine.load(damaged(data, "plan/cuda_sm_90"), device="cpu")
    np.testing.assert_array_equal(on_cpu(x), trine.load(data, device="cpu")(x))
    for section in ("plan/cpu", "weights"):
        with trine.load(damaged(data, section)) as on_gpu:
            np.testing.assert_array_equal(on_gpu(x), answer(x))


def test_what_runs_is_checked(data, driver):
    with pytest.raises(EngineFormatError, match="plan/cuda_sm_90: does not match its SHA-256"):
        trine.load(damaged(data, "plan/cuda_sm_90"))
    with pytest.raises(EngineFormatError, match="plan/cpu: does not match its SHA-256"):
        trine.load(damaged(data, "plan/cpu"), device="cpu")


@pytest.mark.parametrize("section", ["plan/cpu", "weights"])
def test_what_is_written_again_is_checked(data, driver, section, tmp_path):
    with trine.load(damaged(data, section)) as engine:
        with pytest.raises(EngineFormatError, match=f"{section}: does not match"):
            engine.save(tmp_path / "net.trine")
        with pytest.raises(EngineFormatError, match=f"{section}: does not match"):
            engine.serialize()
    assert not list(tmp_path.iterdir())


def test_saving_keeps_both_plans(data, driver):
    with trine.load(data) as engine:
        assert engine.serialize() == data


def test_another_gpu_is_let_go_of(data, driver):
    driver.capability = 80
    assert trine.load(data).device == "cpu"
    assert driver.calls == [("close",)]
