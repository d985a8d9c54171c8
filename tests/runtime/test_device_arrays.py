"""Arrays in a GPU's memory at the border, with objects that say they are such, over a recording driver."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, WIDTH, X, Y, answer, context_on, plan, rows_of
from runtime.stand_in_libraries import CudaTensor, Torch
from torch._subclasses.fake_tensor import FakeTensorMode

import trine
from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import InputError
from trine.runtime.array_libraries import current_stream
from trine.runtime.context import ExecutionContext
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.device_arrays import as_device_array, is_on_gpu


class OnGpu:
    """An array of some library's, in a driver's memory."""

    def __init__(self, driver, array, read_only=False, **more):
        self.driver, self.shape, self.dtype = driver, array.shape, array.dtype
        with driver.current:
            self.address = driver.allocate(array.nbytes, "an array")
        self.values[:] = array.reshape(-1)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.address, read_only),
            "version": 3,
            **more,
        }

    @property
    def values(self):
        return self.driver.array(self.address, self.dtype, int(np.prod(self.shape)))


@pytest.fixture
def driver():
    return RecordingDriver(STAND_INS)


@pytest.fixture
def context(driver):
    return context_on(driver)


def empty(driver, rows):
    return OnGpu(driver, np.full((rows, WIDTH), np.nan, np.float32))


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_execute_uses_the_arrays_where_they_are(driver, context, rows):
    x, y = OnGpu(driver, rows_of(rows)), empty(driver, rows)
    driver.calls.clear()
    assert context.execute({"x": x}, out={"y": y}) == {"y": y}
    np.testing.assert_array_equal(y.values.reshape(-1, WIDTH), answer(rows_of(rows)))
    assert not driver.count("upload")
    assert not driver.count("download")
    assert driver.count("synchronize") == 1, "nobody else orders what follows"


def test_execute_async_returns_at_once_on_the_stream_given(driver, context):
    x, y = OnGpu(driver, rows_of(2)), empty(driver, 2)
    context.execute_async({"x": x}, out={"y": y}, stream=77)
    assert ("launch", 77) in driver.calls
    assert not driver.count("synchronize") - 1  # the upload of the weights


def test_the_stream_that_the_interface_names(driver, context):
    x, y = OnGpu(driver, rows_of(2), stream=78), empty(driver, 2)
    context.execute_async({"x": x}, out={"y": y})
    assert ("launch", 78) in driver.calls


def orders(driver):
    """Who waits for whom, and the launches: ("waits", stream, other) where an event was recorded on the other."""
    recorded, found = {}, []
    for name, *values in driver.calls:
        if name == "record":
            recorded[values[0]] = values[1]
        elif name == "wait":
            found.append(("waits", values[0], recorded.get(values[1])))
        elif name == "launch":
            found.append(("launch", values[0]))
    return found


def test_the_work_waits_for_every_stream_that_an_interface_names(driver):
    infos = tuple(TensorInfo(name, DataType.FLOAT32, ("batch", WIDTH)) for name in "xabc")
    sample = replace(plan(), inputs=plan().inputs * 4)
    context = ExecutionContext(CudaExecutor(sample, infos, (Y,), driver=driver), infos, (Y,), {})
    streams = {"x": 80, "a": 78, "b": None, "c": 80}
    inputs = {name: OnGpu(driver, rows_of(2), stream=stream) for name, stream in streams.items()}
    y = OnGpu(driver, rows_of(2), stream=79)
    driver.calls.clear()
    context.execute_async(inputs, out={"y": y}, stream=77)
    *waits, launch = orders(driver)
    assert waits[0] == ("waits", 77, None), "the call before"
    assert sorted(waits[1:]) == [("waits", 77, 78), ("waits", 77, 79), ("waits", 77, 80)]
    assert launch == ("launch", 77)
    context.execute(inputs, out={"y": y})  # on the first one that is named
    assert sorted(orders(driver)[5:]) == [
        ("launch", 80),
        ("waits", 80, 77),
        ("waits", 80, 78),
        ("waits", 80, 79),
        ("waits", int(context._session.stream), 80),  # and the caller for it
    ]


def test_the_default_stream_by_either_handle(driver, context):
    x, y = OnGpu(driver, rows_of(2), stream=1), OnGpu(driver, rows_of(2), stream=1)
    context.execute({"x": x}, out={"y": y})
    driver.calls.clear()
    context.execute_async({"x": x}, out={"y": y}, stream=0)
    assert orders(driver) == [("waits", 0, None), ("launch", 0)]


def test_an_interface_that_names_a_stream_of_another_gpu(driver, context):
    driver.foreign_streams.add(78)
    with pytest.raises(InputError, match="one of cuda:1's"):
        context.execute_async({"x": OnGpu(driver, rows_of(2), stream=78)}, out={"y": empty(driver, 2)}, stream=77)
    assert not driver.count("launch")


@pytest.mark.parametrize("streams", ["foreign_streams", "captured_streams"])
def test_a_stream_that_cannot_be_used_is_refused_before_anything_is_done(driver, context, streams):
    """A capture would break: the call waits for events of before it, and allocates."""
    x, y = OnGpu(driver, rows_of(2)), empty(driver, 2)
    getattr(driver, streams).add(77)
    driver.calls.clear()
    with pytest.raises(InputError, match=r"stream: .*(one of cuda:1's|outside of the capture)"):
        context.execute_async({"x": x}, out={"y": y}, stream=77)
    assert driver.calls == [("check_stream", 77)]
    driver.captured_streams.clear()
    driver.foreign_streams.clear()
    context.execute_async({"x": x}, out={"y": y}, stream=77)
    np.testing.assert_array_equal(y.values.reshape(-1, WIDTH), answer(rows_of(2)))


class StreamOf:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


NUMBAS = StreamOf(handle=ctypes.c_void_p(5))


@pytest.mark.parametrize(
    "stream", [5, StreamOf(cuda_stream=5), StreamOf(ptr=5), StreamOf(handle=5), NUMBAS, np.int64(5)]
)
def test_streams_of_other_libraries(stream):
    assert current_stream({}, stream) == 5


@pytest.mark.parametrize("stream", [0, 1, StreamOf(handle=ctypes.c_void_p(0))])
def test_the_default_stream(stream):
    assert current_stream({}, stream) == 0


def test_what_is_no_stream():
    with pytest.raises(InputError, match="stream: expected a handle or a stream of PyTorch, CuPy or pycuda, got str"):
        current_stream({}, "default")


def test_without_memory_for_the_outputs(driver, context):
    with pytest.raises(InputError, match=r"output 'y': a OnGpu cannot be made here; give memory for it with out="):
        context.execute({"x": OnGpu(driver, rows_of(2))})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda d: OnGpu(d, rows_of(2).astype(np.float64)), "input 'x': expected float32, got float64; convert it"),
        (lambda d: OnGpu(d, np.zeros((2, WIDTH), "M8[s]")), "expected float32, got <M8"),
        (lambda d: OnGpu(d, rows_of(2), strides=(8, 8)), "expected a contiguous array"),
        (lambda d: OnGpu(d, np.zeros((2, 4), np.float32)), "axis 1 is 4, expected 3"),
        (lambda d: OnGpu(d, np.zeros(3, np.float32)), "expected 2 dimensions"),
        (lambda d: OnGpu(d, rows_of(17)), "profile goes from 1 to 16"),
        (lambda d: OnGpu(d, rows_of(0)), "send at least one row"),
    ],
)
def test_inputs_that_do_not_fit(driver, context, make, text):
    with pytest.raises(InputError, match=text):
        context.execute({"x": make(driver)}, out={"y": empty(driver, 2)})
    assert not driver.count("launch")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda d: {"y": np.zeros((2, WIDTH), np.float32)},
            r"out 'y': expected an array on cuda:0, got one in host memory; move it there \(y\.to",
        ),
        (lambda d: {"y": empty(d, 3)}, r"out 'y': expected shape \(2, 3\), got \(3, 3\)"),
        (lambda d: {"z": empty(d, 2)}, r"out: unknown \['z'\]"),
        (lambda d: {"y": OnGpu(d, rows_of(2), read_only=True)}, "that can be written, got a read-only one"),
        (lambda d: {"y": OnGpu(d, rows_of(2), data=(0, False))}, r"out 'y': .* of shape \(2, 3\) without memory"),
    ],
)
def test_outputs_that_do_not_fit(driver, context, make, text):
    with pytest.raises(InputError, match=text):
        context.execute({"x": OnGpu(driver, rows_of(2))}, out=make(driver))


def test_strides_that_say_contiguous(driver, context):
    array = OnGpu(driver, rows_of(2), strides=(WIDTH * 4, 4))
    assert as_device_array("x", array, X, context._session, 0).shape == (2, WIDTH)
    one = OnGpu(driver, rows_of(1), strides=(1, 4))  # of the only row there is nothing behind
    assert as_device_array("x", one, X, context._session, 0).contiguous


def test_another_gpu(driver, context):
    """The driver is asked: the interface says nothing of the device."""
    array = OnGpu(driver, rows_of(2))
    driver.elsewhere[array.address] = 1
    with pytest.raises(
        InputError,
        match=r"input 'x': expected an array on cuda:0, got one on cuda:1; move it there, or load .* device=\"cuda:1\"",
    ):
        context.execute({"x": array}, out={"y": empty(driver, 2)})
    assert not driver.count("launch")


def test_memory_that_no_gpu_has(driver, context):
    host = rows_of(2)
    array = OnGpu(driver, host, data=(host.ctypes.data, False))
    with pytest.raises(InputError, match=r"input 'x': .* got one at an address where no GPU has memory; pass one"):
        context.execute({"x": array}, out={"y": empty(driver, 2)})


def fake():
    with FakeTensorMode():
        return torch.full((2, WIDTH), 0.0, device="cuda:0")  # it needs no GPU


def freed(tensor):
    tensor.data_ptr = lambda: 0  # as where the storage was resized to nothing
    return tensor


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda on_gpu: fake(), "a FakeTensor"),
        (lambda on_gpu: torch.zeros(2, WIDTH, device="meta"), r"expected an array on cuda:0, got one on meta"),
        (lambda on_gpu: torch.zeros(2, WIDTH).to_sparse(), r"layout .*; pass x\.to_dense\(\)"),
        (
            lambda on_gpu: torch._neg_view(on_gpu).as_subclass(CudaTensor),
            r"negative view; pass x\.resolve_conj\(\)\.resolve_neg\(\)",
        ),
        (lambda on_gpu: on_gpu.t().as_subclass(CudaTensor), "expected a contiguous array"),
        (freed, r"got one of shape \(2, 3\) without memory"),
    ],
)
def test_tensors_that_hold_no_numbers(driver, context, monkeypatch, make, text):
    x = make(Torch(driver, monkeypatch).tensor(rows_of(2)))
    with pytest.raises(InputError, match=f"input 'x': .*{text}"):
        context.execute_async({"x": x}, out={"y": empty(driver, 2)})
    assert not driver.count("launch")


def test_a_tensor_under_a_transform(driver, context, monkeypatch):
    Torch(driver, monkeypatch)
    given = fake()
    with given.fake_mode, pytest.raises(InputError, match="input 'x': expected a plain tensor"):
        torch.vmap(lambda x: context.execute_async({"x": x}, out={"y": empty(driver, 2)}))(given)


def test_some_here_and_some_there(driver):
    infos = (X, TensorInfo("z", DataType.FLOAT32, ("batch", WIDTH)))
    executor = CudaExecutor(plan(), infos, (Y,), driver=driver)
    context = ExecutionContext(executor, infos, (Y,), {})
    for inputs in (
        {"x": OnGpu(driver, rows_of(2)), "z": rows_of(2)},
        {"x": rows_of(2), "z": OnGpu(driver, rows_of(2))},
    ):
        with pytest.raises(
            InputError, match=r"expected an array on cuda:0, got one in host memory; move it there .* or pass all"
        ):
            context.execute(inputs)


def test_closing_a_context_frees_its_memory(driver, context):
    context.execute({"x": rows_of(2)})
    executor = context._session._executor
    context.close()
    assert executor.device == "cuda:0"
    assert [block.nbytes for block in driver.device_memory.values()] == [256], "the weights only"
    with pytest.raises(InputError, match="this execution context is closed"):
        context.execute_async({"x": OnGpu(driver, rows_of(2))})


def test_a_context_of_a_closed_engine(driver, context):
    x, y = OnGpu(driver, rows_of(2)), empty(driver, 2)
    context.execute({"x": rows_of(2)})
    context._session._executor.close()
    driver.calls.clear()
    for call in (
        lambda: context.execute({"x": rows_of(2)}),
        lambda: context.execute({"x": x}, out={"y": y}),
        lambda: context.execute_async({"x": x}, out={"y": y}, stream=77),
    ):
        with pytest.raises(InputError, match=r"this engine is closed; load it again with trine\.load"):
            call()
    assert not any(driver.count(name) for name in ("allocate", "allocate_pinned", "launch", "record"))
    context.close()


def test_host_arrays_are_not_on_a_gpu():
    assert not is_on_gpu(np.zeros(3))
    assert not is_on_gpu(torch.zeros(3))
    assert not is_on_gpu([1.0])


def test_an_engine_on_the_cpu_says_what_to_do(driver):
    engine = trine.build(torch.nn.Linear(WIDTH, 2), torch.ones(2, WIDTH))
    name = engine.inputs[0].name
    with engine.create_execution_context() as context:
        with pytest.raises(
            InputError, match=r'runs on the CPU .* pass x.cpu\(\), or build the model with device="cuda"'
        ):
            context.execute_async({name: OnGpu(driver, rows_of(2))})
        with pytest.raises(InputError, match="runs on the CPU"):
            context.execute({name: OnGpu(driver, rows_of(2))})
    with pytest.raises(InputError, match="runs on the CPU"):
        engine(OnGpu(driver, rows_of(2)))
