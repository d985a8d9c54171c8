"""Sessions on a recording driver: buckets, pieces, graphs that are kept, memory, faults."""

import gc
import threading
from dataclasses import replace

import numpy as np
import pytest
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, WIDTH, X, Y, answer, plan, rows_of

from trine.errors import ConfigError, DeviceError, DeviceLostError, DeviceMemoryError, InputError, NoDeviceError
from trine.runtime.cuda.executor import CudaExecutor

ROW = WIDTH * 4  # bytes


@pytest.fixture
def driver():
    return RecordingDriver(STAND_INS)


def executor_of(driver, *buckets):
    return CudaExecutor(plan(*buckets), (X,), (Y,), driver=driver)


def run(session, x):
    (y,) = session.run([x], [None])
    return y


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_numpy_in_and_out(driver, rows):
    x = rows_of(rows)
    np.testing.assert_array_equal(run(executor_of(driver).open_session(), x), answer(x))


def test_what_was_given_to_write_into_is_written(driver):
    x, y = rows_of(3), np.full((3, WIDTH), np.nan, np.float32)
    (result,) = executor_of(driver).open_session().run([x], [y])
    assert result is y
    np.testing.assert_array_equal(y, answer(x))


def launched(driver):
    """The grids of copy_in in the graphs: the bucket's rows."""
    return [node.grid[0] for graph in driver.graphs for node in graph.nodes if node.function == "copy_in"]


@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 4), (4, 4), (5, 8), (8, 8)])
def test_a_call_uses_the_smallest_bucket_that_holds_it(driver, rows, bucket):
    run(executor_of(driver, 1, 4, 8).open_session(), rows_of(rows))
    assert launched(driver) == [bucket]


@pytest.mark.parametrize("rows", [5, 8, 11])
def test_more_rows_than_the_largest_bucket_are_answered_in_pieces(driver, rows):
    x = rows_of(rows)
    np.testing.assert_array_equal(run(executor_of(driver, 1, 4).open_session(), x), answer(x))
    assert driver.count("launch") == -(-rows // 4)


def test_only_kernels_of_the_bucket_are_loaded_and_each_once(driver):
    executor = executor_of(driver, 1, 4)
    assert driver.count("load_module") == 0
    sessions = [executor.open_session() for _ in range(2)]
    for session in sessions:
        for rows in (1, 4):
            run(session, rows_of(rows))
    assert driver.modules == [b"code 0", b"code 1", b"code 2"]
    assert ("function", "double", 4096) in driver.calls


def test_sessions_share_weights_and_have_their_own_arenas(driver):
    executor = executor_of(driver)
    first, second = executor.open_session(), executor.open_session()
    x, y = rows_of(2, 1), rows_of(2, 2)
    np.testing.assert_array_equal(run(first, x), answer(x))
    np.testing.assert_array_equal(run(second, y), answer(y))
    purposes = [call[2] for call in driver.calls if call[0] == "allocate"]
    assert (purposes.count("the engine's weights"), purposes.count("a context's activations")) == (1, 2)
    pointers = {graph.nodes[1].values[0] for graph in driver.graphs}
    weights = {graph.nodes[1].values[2] for graph in driver.graphs}
    assert (len(pointers), len(weights)) == (2, 1)


def test_the_same_call_again_changes_nothing(driver):
    session = executor_of(driver).open_session()
    for seed in range(3):
        x = rows_of(2, seed)
        np.testing.assert_array_equal(run(session, x), answer(x))
    assert (driver.count("instantiate"), driver.count("update_kernel"), driver.count("launch")) == (1, 0, 3)


class Device:
    """Memory of a caller's on the device."""

    def __init__(self, driver, count, rows=4):
        self.driver, self.rows = driver, rows
        with driver.current:
            self.inputs = [driver.allocate(rows * ROW, "x") for _ in range(count)]
            self.outputs = [driver.allocate(rows * ROW, "y") for _ in range(count)]

    def call(self, session, index, rows, stream=None):
        x = rows_of(rows, index)
        self.driver.array(self.inputs[index], np.float32, x.size)[:] = x.reshape(-1)
        self.driver.array(self.outputs[index], np.float32, self.rows * WIDTH)[:] = np.nan
        session.run_device([self.inputs[index]], [self.outputs[index]], rows, stream)
        y = self.driver.array(self.outputs[index], np.float32, self.rows * WIDTH).reshape(-1, WIDTH)
        np.testing.assert_array_equal(y[:rows], answer(x))
        assert np.isnan(y[rows:]).all(), "rows that the call does not have were written"


def test_a_few_sets_of_buffers_each_find_their_graph(driver):
    session, device = executor_of(driver, 4).open_session(), Device(driver, 8)
    for _ in range(3):
        for index in range(8):
            device.call(session, index, 4)
    assert (driver.count("instantiate"), driver.count("update_kernel")) == (8, 0)


def test_past_that_the_graph_longest_unused_is_changed(driver):
    session, device = executor_of(driver, 4).open_session(), Device(driver, 10)
    for index in range(8):
        device.call(session, index, 4)
    device.call(session, 0, 4)  # now 1 is the one longest unused
    device.call(session, 8, 4)
    assert (driver.count("instantiate"), driver.count("update_kernel")) == (8, 2)
    assert [call[1] for call in driver.calls if call[0] == "update_kernel"] == ["copy_in", "copy_out"], "only the edge"
    device.call(session, 0, 4)
    device.call(session, 8, 4)
    assert driver.count("update_kernel") == 2
    device.call(session, 1, 4)
    assert driver.count("update_kernel") == 4


def test_other_rows_of_the_same_bucket_change_the_edge(driver):
    session, device = executor_of(driver, 4).open_session(), Device(driver, 1)
    for rows in (4, 3, 2, 1, 3):
        device.call(session, 0, rows)
    assert driver.count("instantiate") == 4


def test_an_update_that_is_refused_is_made_again(driver, monkeypatch):
    session, device = executor_of(driver, 4).open_session(), Device(driver, 9)
    for index in range(8):
        device.call(session, index, 4)

    def refuse(*args):
        raise DeviceMemoryError("no")

    with monkeypatch.context() as patch:
        patch.setattr(driver, "update_kernel", refuse)
        with pytest.raises(DeviceMemoryError):
            device.call(session, 8, 4)
    device.call(session, 8, 4)


def test_another_stream_waits_for_the_arena(driver):
    session, device = executor_of(driver, 4).open_session(), Device(driver, 1)
    device.call(session, 0, 4)
    before = driver.count("wait")
    device.call(session, 0, 4, stream=77)
    device.call(session, 0, 4, stream=77)  # by now it may be another stream of the same handle
    device.call(session, 0, 4)
    assert [call[1] for call in driver.calls if call[0] == "wait"][before:] == [77, 77, int(session.stream)]
    device.call(session, 0, 4)
    assert driver.count("wait") == before + 3, "the session's own stream is its own order"


def test_synchronize_waits_for_the_callers_stream_too(driver):
    session, device = executor_of(driver, 4).open_session(), Device(driver, 1)
    device.call(session, 0, 4, stream=77)
    before = len(driver.calls)
    session.synchronize()
    assert [call[0] for call in driver.calls[before:]] == ["wait", "synchronize"]


def test_staging_memory_grows_and_is_kept(driver):
    session = executor_of(driver, 1, 4).open_session()
    for rows in (1, 4, 2, 1):
        x = rows_of(rows)
        np.testing.assert_array_equal(run(session, x), answer(x))
    assert driver.count("allocate_pinned") == 4  # for 1 row and for 4, in and out
    assert len(driver.pinned) == 2


def test_out_of_memory_and_then_a_smaller_call():
    driver = RecordingDriver(STAND_INS, capacity=4096)
    session = executor_of(driver, 1, 4).open_session()
    with pytest.raises(DeviceMemoryError, match="a context's inputs and outputs needs 2400 bytes"):
        run(session, rows_of(200))
    x = rows_of(2)
    np.testing.assert_array_equal(run(session, x), answer(x))
    session._executor.close()
    assert driver.nothing_is_held()


def test_no_room_for_a_second_context():
    driver = RecordingDriver(STAND_INS, capacity=600)
    executor = executor_of(driver, 4)
    first, second = executor.open_session(), executor.open_session()
    first.poison()
    with pytest.raises(DeviceMemoryError, match="a context's activations"):
        second.poison()
    first.close()
    second.poison()


def test_no_room_for_the_weights():
    with pytest.raises(DeviceMemoryError, match="the engine's weights"):
        executor_of(RecordingDriver(capacity=100))


def test_another_architecture_is_refused():
    with pytest.raises(NoDeviceError, match=r'cuda:0 is an sm_89, .* for sm_90; build it with target="sm_89"'):
        executor_of(RecordingDriver(capability=89))


def test_a_fault_ends_the_session_and_closing_is_quiet(driver):
    executor = executor_of(driver)
    session = executor.open_session()
    run(session, rows_of(1))
    driver.lost = True
    with pytest.raises(DeviceLostError):
        run(session, rows_of(1))
    executor.close()


def test_closing_frees_everything_and_twice_is_once(driver):
    executor = executor_of(driver)
    sessions = [executor.open_session() for _ in range(3)]
    for session in sessions:
        run(session, rows_of(3))
    sessions[0].close()
    sessions[0].close()
    executor.close()
    executor.close()
    assert driver.nothing_is_held()


def test_closing_lets_go_of_the_gpu_once(driver):
    executor = executor_of(driver)
    run(executor.open_session(), rows_of(2))
    executor.close()
    executor.close()
    assert (driver.count("close"), driver.calls[-1]) == (1, ("close",))


def test_what_cannot_be_opened_lets_go_of_the_gpu():
    small, other = RecordingDriver(STAND_INS, capacity=100), RecordingDriver(STAND_INS, 75)
    for driver, kind in ((small, DeviceMemoryError), (other, NoDeviceError)):
        with pytest.raises(kind):
            executor_of(driver)
        assert driver.count("close") == 1


def test_a_session_that_is_forgotten_frees_its_memory(driver):
    executor = executor_of(driver)
    used = driver.used
    session = executor.open_session()
    run(session, rows_of(2))
    del session
    gc.collect()
    assert driver.used == used


def test_inputs_that_disagree_about_their_rows(driver):
    session = executor_of(driver).open_session()
    with pytest.raises(InputError, match=r"\[2, 3\] rows"):
        session.rows_of([(2, 3), (3, 3)])


def test_sessions_in_threads(driver):
    executor = executor_of(driver, 4)
    problems = []

    def work(seed):
        session = executor.open_session()
        for number in range(5):
            x = rows_of(1 + (seed + number) % 4, seed)
            if not np.array_equal(run(session, x), answer(x)):
                problems.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert driver.modules == [b"code 0", b"code 1", b"code 2"]
    executor.close()
    assert driver.nothing_is_held()


def test_the_arena_grows_with_the_buckets_in_use(driver):
    session, device = executor_of(driver, 1, 4).open_session(), Device(driver, 1)
    arenas = [call[1] for call in driver.calls if call[2:] == ("a context's activations",)]
    assert not arenas, "nothing before the first call"
    for rows in (1, 3, 1, 4):
        device.call(session, 0, rows, stream=77)
    arenas = [call[1] for call in driver.calls if call[2:] == ("a context's activations",)]
    assert arenas == [2 * ROW, 8 * ROW]
    assert driver.count("free") == 1
    assert sum(graph.alive for graph in driver.graphs) == 3, "graphs of the old arena are gone"


def test_the_old_arena_is_freed_only_when_the_callers_stream_is_done_with_it(driver):
    session, device = executor_of(driver, 1, 4).open_session(), Device(driver, 1)
    device.call(session, 0, 1, stream=77)
    driver.calls.clear()
    device.call(session, 0, 4, stream=78)
    names = [call[0] for call in driver.calls]
    assert names.index("wait") < names.index("synchronize") < names.index("free") < names.index("launch")


def test_no_room_for_a_larger_bucket_and_then_a_smaller_call():
    driver = RecordingDriver(STAND_INS, capacity=4096 + 1200)
    executor = executor_of(driver, 1, 200)
    session, device = executor.open_session(), Device(driver, 1, 1)
    device.call(session, 0, 1)
    with pytest.raises(DeviceMemoryError, match="a context's activations needs 4800 bytes"):
        session.run_device(device.inputs, device.outputs, 150, None)
    device.call(session, 0, 1)
    device.call(session, 0, 1, stream=77)


def test_no_room_in_pinned_memory_and_then_a_smaller_call():
    driver = RecordingDriver(STAND_INS)
    session = executor_of(driver, 1, 4).open_session()
    driver.pinned_capacity = 2 * ROW
    with pytest.raises(DeviceMemoryError, match="the host has no"):
        run(session, rows_of(4))
    assert not driver.pinned
    np.testing.assert_array_equal(run(session, rows_of(1)), answer(rows_of(1)))


def test_a_poisoned_arena_does_not_show(driver):
    session = executor_of(driver, 1, 4).open_session()
    for rows in (4, 3, 1):
        session.poison()
        x = rows_of(rows)
        np.testing.assert_array_equal(run(session, x), answer(x))


def test_all_graphs_at_once_if_asked(driver):
    executor = CudaExecutor(plan(1, 4, 8), (X,), (Y,), driver=driver, capture="build")
    session = executor.open_session()
    assert (driver.count("instantiate"), driver.count("load_module"), driver.count("launch")) == (3, 3, 3)
    assert [call[1] for call in driver.calls if call[2:] == ("a context's activations",)] == [16 * ROW]
    for rows in (1, 3, 8):
        x = rows_of(rows)
        np.testing.assert_array_equal(run(session, x), answer(x))
    assert (driver.count("instantiate"), driver.count("update_kernel")) == (3, 2), "the edges only, of 3 rows of 4"
    executor.close()
    assert driver.nothing_is_held()


def test_after_that_no_call_makes_or_takes_anything(driver):
    session = CudaExecutor(plan(1, 4, 8), (X,), (Y,), driver=driver, capture="build").open_session()
    device = Device(driver, 8, 8)
    costly = ("instantiate", "load_module", "allocate", "allocate_pinned")
    before = [driver.count(name) for name in costly]
    for rows in (*range(1, 9), 2, 7):
        x = rows_of(rows)
        np.testing.assert_array_equal(run(session, x), answer(x))
        device.call(session, rows - 1, rows)
    assert [driver.count(name) for name in costly] == before


def test_no_room_for_staging_before_the_first_call():
    """Of the arena there is enough, of the inputs' and outputs' memory not."""
    driver = RecordingDriver(STAND_INS, capacity=100 * ROW * 2 + 1000)
    executor = CudaExecutor(plan(1, 100), (X,), (Y,), driver=driver, capture="build")
    with pytest.raises(DeviceMemoryError, match="inputs and outputs"):
        executor.open_session()
    executor.close()
    assert driver.nothing_is_held()


def test_no_room_for_all_graphs_at_once():
    driver = RecordingDriver(STAND_INS, capacity=4096)
    executor = CudaExecutor(plan(1, 200), (X,), (Y,), driver=driver, capture="build")
    with pytest.raises(DeviceMemoryError):
        executor.open_session()
    executor.close()
    assert driver.nothing_is_held()


def test_an_unknown_time_to_capture(driver):
    with pytest.raises(ConfigError, match='capture: \'never\' is unknown; allowed: "first_use", "build"'):
        CudaExecutor(plan(), (X,), (Y,), driver=driver, capture="never")


def test_a_stream_of_another_gpu(driver):
    session = executor_of(driver, 4).open_session()
    driver.foreign_streams.update((99, int(session.stream)))
    with pytest.raises(InputError, match="one of cuda:1"):
        session.check_stream(99)
    session.check_stream(77)
    session.check_stream(int(session.stream))  # there is no need to ask the driver


def test_a_call_that_ends_in_the_middle_is_waited_for(driver, monkeypatch):
    session, device = executor_of(driver, 1, 4).open_session(), Device(driver, 1, 8)
    launches = driver.launch

    def second_fails(executable, stream):
        if driver.count("launch") == 1:
            raise DeviceMemoryError("no")
        launches(executable, stream)

    monkeypatch.setattr(driver, "launch", second_fails)
    with pytest.raises(DeviceMemoryError):
        session.run_device(device.inputs, device.outputs, 8, 77)
    assert (driver.calls[-1][0], driver.calls[-1][2]) == ("record", 77)


def test_each_launch_is_timed_by_itself(driver):
    executor = executor_of(driver, 1, 4)
    session = executor.open_session()
    assert session.time_launches(3) == [25.0] * 3  # the recording driver's events are 0.5 ms apart
    graphs = [[node.function for node in graph.nodes] for graph in driver.graphs[1:]]
    assert graphs == [["copy_in"] * 20, ["double"] * 20, ["copy_out"] * 20]
    for graph in driver.graphs[1:]:
        assert all(node.after == [previous] for previous, node in zip(graph.nodes, graph.nodes[1:], strict=False))
    x = rows_of(3)
    np.testing.assert_array_equal(run(session, x), answer(x))
    executor.close()
    assert driver.nothing_is_held()


def test_an_executor_that_is_forgotten_frees_its_weights(driver):
    executor = executor_of(driver)
    run(executor.open_session(), rows_of(2))
    del executor
    gc.collect()
    assert driver.nothing_is_held()


@pytest.mark.parametrize("able", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("early", [True, False])
def test_launches_start_early_where_their_kernels_wait(driver, able, early):
    sample = plan(4)
    kernels = tuple(replace(each, waits=waits) for each, waits in zip(sample.kernels, able, strict=True))
    made = replace(sample, kernels=kernels, buckets=(replace(sample.buckets[0], early=early),))
    x = rows_of(3)
    np.testing.assert_array_equal(run(CudaExecutor(made, (X,), (Y,), driver=driver).open_session(), x), answer(x))
    found = [call[2] for call in driver.calls if call[0] == "add_kernel"]
    assert found == [False, early and able[1], early and able[2]]  # the first waits for nothing


def test_a_driver_that_cannot_start_launches_early_runs_them_one_after_another():
    class Old(RecordingDriver):
        def add_kernel(self, *given):
            if given[-1] is True:
                raise DeviceError("cuda:0: no such function; launches start early since CUDA 12.3")
            return super().add_kernel(*given)

    sample, driver = plan(4), Old(STAND_INS)
    kernels = tuple(replace(each, waits=True) for each in sample.kernels)
    made = replace(sample, kernels=kernels, buckets=(replace(sample.buckets[0], early=True),))
    executor = CudaExecutor(made, (X,), (Y,), driver=driver)
    for seed in range(2):
        x = rows_of(4, seed)
        np.testing.assert_array_equal(run(executor.open_session(), x), answer(x))
    assert len(driver.graphs) == 3  # the first was given up, and it was not tried again
    executor.close()
    assert driver.nothing_is_held()


def test_calls_are_timed(driver):
    session = executor_of(driver, 4).open_session()
    run(session, rows_of(4))
    before = driver.count("launch")
    assert session.time_calls(4, 5) == 100.0  # the driver says that half a millisecond passed
    assert driver.count("launch") - before == 5
