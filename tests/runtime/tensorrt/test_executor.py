"""Running a TensorRT plan: shapes, addresses, copies, memory, over a stand-in for TensorRT and a recording driver."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from runtime.cuda.recording_driver import RecordingDriver
from runtime.tensorrt.stand_in import package

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import BuildError, DeviceError, DeviceMemoryError, EngineFormatError, InputError, NoDeviceError
from trine.runtime.context import ExecutionContext
from trine.runtime.tensorrt.executor import TensorRTExecutor
from trine.runtime.tensorrt.plan import TensorRTPlan

X = TensorInfo("x", DataType.FLOAT32, ("batch", 300))
Y = TensorInfo("y", DataType.FLOAT32, ("batch", 300))
PLAN = TensorRTPlan("tensorrt_rtx", "1.7", "fp16", "", (), b"plan")


def opened(driver: RecordingDriver) -> TensorRTExecutor:
    return TensorRTExecutor(PLAN, package(driver), (X,), (Y,), driver)


def test_answers_and_leaves_nothing_behind() -> None:
    driver = RecordingDriver()
    executor = opened(driver)
    session = executor.open_session()
    for rows in (1, 4, 2, 8):  # memory grows, and is used again
        x = np.random.default_rng(rows).random((rows, 300), np.float32)
        (y,) = session.run([x], [None])
        np.testing.assert_array_equal(y, 2 * x)
        given = np.zeros_like(x)
        assert session.run([x], [given])[0] is given
        np.testing.assert_array_equal(given, 2 * x)
    assert driver.count("allocate") == 2 * 3  # for 1, 4 and 8 rows
    executor.close()
    assert driver.nothing_is_held()
    with pytest.raises(InputError, match=r"this engine is closed; load it again with trine\.load"):
        session.run([x], [None])


def test_sessions_have_memory_of_their_own() -> None:
    driver = RecordingDriver()
    executor = opened(driver)
    answers: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        session = executor.open_session()
        for _ in range(20):
            (answers[number],) = session.run([np.full((2, 300), number, np.float32)], [None])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: answer[0, 0] for number, answer in answers.items()} == {0: 0, 1: 2, 2: 4, 3: 6}


def test_a_shape_that_the_plan_does_not_take_is_named() -> None:
    session = opened(RecordingDriver()).open_session()
    with pytest.raises(InputError, match=r"input 'x': TensorRT's plan does not take shape \(9, 300\)"):
        session.run([np.zeros((9, 300), np.float32)], [None])
    (y,) = session.run([np.ones((1, 300), np.float32)], [None])
    assert y.sum() == 600


def test_after_too_little_memory_a_smaller_call_is_answered() -> None:
    session = opened(RecordingDriver(capacity=3000)).open_session()
    with pytest.raises(DeviceMemoryError):
        session.run([np.zeros((8, 300), np.float32)], [None])
    (y,) = session.run([np.ones((1, 300), np.float32)], [None])
    assert y.sum() == 600


def test_a_plan_that_tensorrt_refuses_says_why_and_what_to_do() -> None:
    driver = RecordingDriver()
    refusing = package(driver, refuses="compute capability 9.0 is not supported")
    with pytest.raises(NoDeviceError, match=r"does not take the plan.*sm_90.*capability 9\.0.*device=.cpu."):
        TensorRTExecutor(PLAN, refusing, (X,), (Y,), driver)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"x": "FLOAT", "z": "FLOAT"}, "'y' is missing; 'z' is none of the engine's"),
        ({"x": "HALF", "y": "FLOAT"}, "'x' is float32, and HALF to TensorRT"),
        ({"x": "FLOAT", "y": "INT4"}, "'y' is float32, and INT4 to TensorRT"),
    ],
)
def test_a_plan_of_other_tensors_is_damaged(tensors: dict[str, str], says: str) -> None:
    driver = RecordingDriver()
    with pytest.raises(EngineFormatError, match=says):
        TensorRTExecutor(PLAN, package(driver, tensors), (X,), (Y,), driver)


def test_what_a_failed_call_leaves_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies have ended before the caller's arrays may go, and its reasons are not the next call's."""
    driver = RecordingDriver()
    executor = opened(driver)
    session = executor.open_session()
    severity = SimpleNamespace(name="ERROR")

    def fails(stream: int) -> bool:
        executor.messages.logger.log(severity, "the first reason")
        return False

    monkeypatch.setattr(session._context, "execute_async_v3", fails)
    with pytest.raises(DeviceError, match="does not run the plan: the first reason"):
        session.run([np.zeros((1, 300), np.float32)], [None])
    assert driver.calls[-1][0] == "synchronize"
    with pytest.raises(InputError, match="it gave no reason"):
        session.run([np.zeros((9, 300), np.float32)], [None])
    for _ in range(500):
        executor.messages.logger.log(severity, "again and again")
    assert len(executor.messages.all) == 100
    session.close()
    session.close()
    assert driver.nothing_is_held()


def test_an_output_whose_shape_depends_on_values_is_named() -> None:
    session = opened(RecordingDriver()).open_session()
    session._context.get_tensor_shape = lambda name: (-1, 300)
    with pytest.raises(BuildError, match=r"output 'y' has shape \(-1, 300\): it depends on values"):
        session.run([np.zeros((1, 300), np.float32)], [None])


def test_no_rows_are_answered() -> None:
    (y,) = opened(RecordingDriver()).open_session().run([np.zeros((0, 300), np.float32)], [None])
    assert y.shape == (0, 300)


def test_arrays_on_a_gpu_are_refused_by_name() -> None:
    class OnGpu:
        __cuda_array_interface__: ClassVar = {"shape": (1, 300), "typestr": "<f4", "data": (256, False), "version": 3}

    context = ExecutionContext(opened(RecordingDriver()), (X,), (Y,), {})
    with pytest.raises(InputError, match="runs by TensorRT and takes arrays in host memory"):
        context.execute({"x": OnGpu()})
