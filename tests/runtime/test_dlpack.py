"""Arrays that speak nothing but DLPack on a GPU: used where they are, kept as long as the GPU needs them.

NumPy and PyTorch make the capsules, over a recording driver's memory.
"""

import ctypes
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, WIDTH, answer, context_on, rows_of

import trine
from trine.errors import InputError
from trine.runtime.device_arrays import is_on_gpu
from trine.runtime.dlpack import _Tensor, _Versioned, dlpack_ordinal, take_dlpack


class View(np.ndarray):
    """One that a set can have."""

    __hash__ = object.__hash__


class Numpys:
    """An array in a driver's memory. ``lent``: what capsules hold that were not given back. ``streams``: those that it
    was told of."""

    device = (2, 0)

    def __init__(self, driver, array):
        with driver.current:
            address = driver.allocate(array.nbytes, "an array")
        self.values = driver.array(address, array.dtype, array.size).reshape(array.shape)
        self.values[...] = array
        self.lent, self.streams = weakref.WeakSet(), []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, stream, max_version):
        self.streams.append(stream)
        view = self.values.view(View)
        self.lent.add(view)
        return self.capsule(view, max_version)

    def capsule(self, view, max_version):
        return view.__dlpack__(max_version=max_version)


class Unversioned(Numpys):
    """From before DLPack had versions."""

    def __dlpack__(self, stream):
        return super().__dlpack__(stream, None)


class Torchs(Numpys):
    """Its capsules have strides, where NumPy's have none."""

    def capsule(self, view, max_version):
        return torch.from_numpy(view).__dlpack__(max_version=max_version)


KINDS = [Numpys, Unversioned, Torchs]


@pytest.fixture
def driver():
    return RecordingDriver(STAND_INS)


@pytest.fixture
def context(driver):
    return context_on(driver)


def empty(driver, rows, kind=Numpys):
    return kind(driver, np.full((rows, WIDTH), np.nan, np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_execute_uses_them_where_they_are(driver, context, kind, rows):
    x, y = kind(driver, rows_of(rows)), empty(driver, rows, kind)
    driver.calls.clear()
    assert context.execute({"x": x}, out={"y": y}) == {"y": y}
    np.testing.assert_array_equal(y.values, answer(rows_of(rows)))
    assert not driver.count("upload")
    assert not driver.count("download")
    assert driver.count("synchronize") == 1
    assert x.streams == y.streams == [int(context._session.stream)], "the context's own stream is told to both"
    assert not x.lent
    assert not y.lent


@pytest.mark.parametrize(("stream", "told"), [(77, 77), (0, 1)])
def test_they_are_kept_until_the_gpu_has_used_them(driver, context, stream, told):
    x, y = Numpys(driver, rows_of(2)), empty(driver, 2)
    driver.busy = True
    for calls in (1, 2):
        context.execute_async({"x": x}, out={"y": y}, stream=stream)
        assert len(x.lent) == len(y.lent) == calls
    assert x.streams == [told, told]
    driver.busy = False
    context.execute_async({"x": x}, out={"y": y}, stream=stream)
    assert len(x.lent) == 1, "those of the calls before are given back"
    executor = context._session._executor
    context.close()
    assert not x.lent
    executor.close()
    assert not driver.handles, "events of what was held too"


def test_they_are_kept_when_a_call_fails_in_the_middle(driver, context, monkeypatch):
    x, y = Numpys(driver, rows_of(9)), empty(driver, 9)
    launch = driver.launch

    def second_fails(executable, stream):
        if driver.count("launch") == 1:
            raise trine.errors.DeviceMemoryError("no")
        launch(executable, stream)

    monkeypatch.setattr(driver, "launch", second_fails)
    driver.busy = True
    with pytest.raises(trine.errors.DeviceMemoryError):
        context.execute_async({"x": x}, out={"y": y}, stream=77)
    gc.collect()
    assert len(x.lent) == 1


def test_an_array_of_another_gpu_is_told_of_no_stream(driver, context):
    x = Numpys(driver, rows_of(2))
    x.device = (2, 1)
    with pytest.raises(InputError, match="input 'x': expected an array on cuda:0, got one on cuda:1; move it there"):
        context.execute({"x": x}, out={"y": empty(driver, 2)})
    assert not x.streams


class Refuses(Numpys):
    def __dlpack__(self, stream, max_version):
        raise BufferError("it is under a transform")


class NoCapsule(Numpys):
    def __dlpack__(self, stream, max_version):
        return b""


def read_only(driver):
    array = Numpys(driver, rows_of(2))
    array.values.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda d: Refuses(d, rows_of(2)),
            "a Refuses cannot be used where it is: it is under a transform; pass an array",
        ),
        (lambda d: NoCapsule(d, rows_of(2)), "its __dlpack__ gives a bytes, and no capsule"),
        (lambda d: Numpys(d, rows_of(2).astype(np.float64)), "expected float32, got float64; convert it"),
        (lambda d: transposed(d), "expected a contiguous array"),
        (lambda d: Numpys(d, rows_of(17)), "profile goes from 1 to 16"),
    ],
)
def test_inputs_that_do_not_fit(driver, context, make, text):
    with pytest.raises(InputError, match=f"input 'x': .*{text}"):
        context.execute({"x": make(driver)}, out={"y": empty(driver, 2)})
    assert not driver.count("launch")


def transposed(driver):
    array = Numpys(driver, np.zeros((WIDTH, 2), np.float32))
    array.values = array.values.T
    return array


def test_read_only_ones_are_read_and_not_written(driver, context):
    context.execute({"x": read_only(driver)}, out={"y": empty(driver, 2)})
    with pytest.raises(InputError, match="out 'y': expected an array that can be written, got a read-only one"):
        context.execute({"x": Numpys(driver, rows_of(2))}, out={"y": read_only(driver)})


def test_outputs_of_their_kind_cannot_be_made(driver, context):
    with pytest.raises(InputError, match="output 'y': a Numpys cannot be made here; give memory for it with out="):
        context.execute({"x": Numpys(driver, rows_of(2))})


class Host:
    def __dlpack_device__(self):
        raise BufferError("not now")


def test_which_arrays_are_on_a_gpu(driver):
    assert is_on_gpu(Numpys(driver, rows_of(2)))
    managed = Numpys(driver, rows_of(2))
    managed.device = (13, 0)  # the host reads it
    for value in (np.zeros(3), managed, Host(), 1.0, [1.0]):
        assert dlpack_ordinal(value) is None
        assert not is_on_gpu(value)


class Lends:
    def __init__(self, owner):
        self.owner = owner

    def __dlpack__(self, stream, max_version):
        return self.owner.__dlpack__(max_version=max_version)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64", "uint8", "bool", "complex64", "float8_e4m3fn"])
def test_what_a_capsule_says(dtype):
    tensor = torch.zeros(4, 6, dtype=getattr(torch, dtype))[1:, 2:]
    taken = take_dlpack(Lends(tensor), 5)
    assert (taken.address, taken.shape, taken.strides) == (tensor.data_ptr(), (3, 4), (6, 1))
    assert (taken.dtype, taken.read_only) == (dtype, False)


def made(major=1, lanes=1, code=2):
    """A capsule of an array of 7 float32 that begins 64 bytes behind address 4096."""
    shape = (ctypes.c_int64 * 1)(7)
    tensor = _Tensor(4096, 2, 0, 1, code, 32, lanes, shape, None, 64)
    versioned = _Versioned(major, 0, None, None, 0, tensor)
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    capsule = new(("PyCapsule_New", ctypes.pythonapi))(ctypes.addressof(versioned), b"dltensor_versioned", None)
    return SimpleNamespace(__dlpack__=lambda stream, max_version: capsule, kept=(shape, versioned))


def test_where_an_array_begins():
    taken = take_dlpack(made(), 5)
    assert (taken.address, taken.shape, taken.strides, taken.dtype) == (4160, (7,), None, "float32")


def test_what_no_kernel_reads_has_a_name_for_the_error():
    assert take_dlpack(made(lanes=4), 5).dtype == "float32 x 4"
    assert take_dlpack(made(code=99), 5).dtype == "DLPack's type 99 of 32 bits"


def test_a_version_to_come():
    with pytest.raises(BufferError, match="it has version 2 of DLPack, and 1 was asked for"):
        take_dlpack(made(major=2), 5)
