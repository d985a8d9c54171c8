"""What the CPU computes between two graphs of launches, in sessions on a recording driver."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, WIDTH, X, Y, answer, cpu_part, plan_with_cpu, rows_of

from trine.errors import BuildError, DeviceError, DeviceLostError, InputError
from trine.runtime.context import ExecutionContext
from trine.runtime.cuda.cpu_parts import open_part
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.plan import CpuEdge

ROW = WIDTH * 4


@pytest.fixture
def driver():
    return RecordingDriver(STAND_INS)


def executor_of(driver, *buckets, part=None, **options):
    return CudaExecutor(plan_with_cpu(*buckets, part=part), (X,), (Y,), driver=driver, **options)


def run(session, x):
    (y,) = session.run([x], [None])
    return y


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 11])
def test_answers(driver, rows):
    """Whole buckets, buckets with rows to spare, and pieces."""
    executor = executor_of(driver)
    session = executor.open_session()
    session.poison()
    for seed in range(2):
        x = rows_of(rows, seed)
        np.testing.assert_array_equal(run(session, x), -answer(x))
    executor.close()
    assert driver.nothing_is_held()


def test_the_cpu_waits_for_the_launches_before_it_and_those_behind_for_its_copies(driver):
    session = executor_of(driver, 4).open_session()
    run(session, rows_of(4))
    driver.calls.clear()
    run(session, rows_of(4))
    stream = int(session.stream)
    assert {call[-1] for call in driver.calls if call[0] in ("launch", "upload", "download")} == {stream}
    names = [name for name, *_ in driver.calls if name in ("upload", "launch", "download", "synchronize")]
    step = ["launch", "download", "synchronize", "upload", "launch"]
    assert names == ["upload", *step, "download", "synchronize"]
    assert (driver.count("instantiate"), driver.count("allocate_pinned")) == (0, 0), "nothing new for the same call"


def test_a_callers_stream_has_all_of_it(driver):
    executor = executor_of(driver, 4)
    session = executor.open_session()
    with driver.current:
        x, y = driver.allocate(4 * ROW, "x"), driver.allocate(4 * ROW, "y")
    driver.array(x, np.float32, 3 * WIDTH)[:] = rows_of(3).reshape(-1)
    driver.array(y, np.float32, 4 * WIDTH)[:] = np.nan
    driver.calls.clear()
    session.run_device([x], [y], 3, 77)
    assert {call[-1] for call in driver.calls if call[0] in ("launch", "upload", "download", "synchronize")} == {77}
    found = driver.array(y, np.float32, 4 * WIDTH).reshape(4, WIDTH)
    np.testing.assert_array_equal(found[:3], -answer(rows_of(3)))
    assert np.isnan(found[3]).all()


def test_rows_that_the_call_does_not_have_are_zeros_for_the_cpu(driver):
    """1 / x of what an earlier call left there would be something else."""
    part = cpu_part("y = Reciprocal(x)")
    session = executor_of(driver, 4, part=part).open_session()
    run(session, rows_of(4))
    run(session, rows_of(1))
    y = driver.array(session._arena + 4 * ROW, np.float32, 4 * WIDTH).reshape(4, WIDTH)
    np.testing.assert_array_equal(y[0], 1 / answer(rows_of(1))[0])
    assert np.isinf(y[1:]).all()


def test_all_segments_are_captured_when_asked(driver):
    session = executor_of(driver, 1, 4, capture="build").open_session()
    assert driver.count("instantiate") == 4
    run(session, rows_of(4))
    assert driver.count("instantiate") == 4
    assert [len(graph.nodes) for graph in driver.graphs] == [2, 1, 2, 1]


def test_a_step_before_the_first_launch_and_one_behind_the_last(driver):
    made = plan_with_cpu(2)
    (bucket,) = made.buckets
    (step,) = bucket.cpu_steps
    steps = (replace(step, after=0), replace(step, after=1), replace(step, after=3))
    made = replace(made, buckets=(replace(bucket, cpu_steps=steps),))
    assert [len(each) for each in made.buckets[0].segments()] == [0, 1, 2, 0]
    session = CudaExecutor(made, (X,), (Y,), driver=driver).open_session()
    np.testing.assert_array_equal(run(session, rows_of(2)), answer(rows_of(2)))
    assert driver.count("launch") == 2


def test_two_sessions_in_two_threads(driver):
    executor = executor_of(driver)
    wrong = []

    def work(seed):
        session = executor.open_session()
        for turn in range(20):
            x = rows_of(1 + turn % 4, seed + turn)
            if not np.array_equal(run(session, x), -answer(x)):
                wrong.append((seed, turn))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_another_shape_than_was_planned(driver):
    part = cpu_part("y = Transpose <perm = [1, 0]> (x)")
    session = executor_of(driver, 4, part=part).open_session()
    with pytest.raises(DeviceError, match=r"the CPU's part gave 'y' as float32 \(3, 4\); .* float32 \(4, 3\)"):
        run(session, rows_of(4))


def test_what_fails_on_the_cpu_leaves_the_session_as_it_was(driver):
    """A MatMul with as many rows as columns works, others do not."""
    part = cpu_part("y = MatMul(x, x)")
    session = executor_of(driver, 3, 4, part=part).open_session()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ONNX Runtime"):
            run(session, rows_of(4))
        x = rows_of(3)
        np.testing.assert_allclose(run(session, x), answer(x) @ answer(x), rtol=1e-5)


def test_a_lost_gpu(driver):
    executor = executor_of(driver, 4)
    session = executor.open_session()
    driver.lost = True
    with pytest.raises(DeviceLostError):
        run(session, rows_of(4))
    executor.close()


def test_what_no_backend_takes():
    part = replace(cpu_part(), model=cpu_part().model.replace(b"Neg", b"Nag"))
    with pytest.raises(BuildError, match=r"nothing here can compute y \(Neg\) on the CPU: ONNX Runtime .*; OpenVINO"):
        open_part(part, threads=1)


def counted():
    """A plan without rows whose CPU part gives the positions of what is above zero, as an output of its own."""
    part = cpu_part(
        "zero = Constant <value_float = 0.0> ()\nabove = Greater(x, zero)\nfound = NonZero(above)\n"
        "y = Cast <to = 1> (found)",
        outputs="float[two,count] y",
    )
    made = plan_with_cpu(2, part=part)
    (bucket,) = made.buckets
    (step,) = bucket.cpu_steps
    step = replace(step, inputs=(CpuEdge(("input", 0), (2, WIDTH)),), outputs=(CpuEdge(("output", 1)),))
    shapes = (((2, WIDTH), "float32"), (None, "float32"))
    return replace(
        made, buckets=(replace(bucket, cpu_steps=(step,)),), inputs=shapes[:1], outputs=shapes, rows_vary=False
    )


def test_outputs_whose_shapes_depend_on_values(driver):
    info = replace(X, shape=(2, WIDTH))
    outputs = (replace(Y, shape=(2, WIDTH)), replace(Y, name="found", shape=("found_0", "found_1")))
    context = ExecutionContext(CudaExecutor(counted(), (info,), outputs, driver=driver), (info,), outputs, {})
    for seed in range(3):
        x = rows_of(2, seed)
        found = context.execute({"x": x})
        np.testing.assert_array_equal(found["y"], answer(x))
        np.testing.assert_array_equal(found["found"], np.array(np.nonzero(x > 0), np.float32))
        out = np.empty_like(found["found"])
        assert context.execute({"x": x}, {"found": out})["found"] is out
        np.testing.assert_array_equal(out, found["found"])


class OnGpu:
    """As CuPy has it."""

    def __init__(self, address, shape):
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (address, False), "version": 3}


def test_such_outputs_cannot_lie_on_the_gpu(driver):
    info = replace(X, shape=(2, WIDTH))
    outputs = (replace(Y, shape=(2, WIDTH)), replace(Y, name="found", shape=("found_0", "found_1")))
    context = ExecutionContext(CudaExecutor(counted(), (info,), outputs, driver=driver), (info,), outputs, {})
    with driver.current:
        x, y = driver.allocate(2 * ROW, "x"), driver.allocate(2 * ROW, "y")
    with pytest.raises(InputError, match=r"output 'found' is made on the CPU.*pass the inputs as NumPy arrays"):
        context.execute({"x": OnGpu(x, (2, WIDTH))}, {"y": OnGpu(y, (2, WIDTH))})
