"""pycuda.gpuarray: arrays as the buffers of a TensorRT program."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from trine.compat.pycuda import driver, gpuarray
from trine.errors import UnsupportedError


@pytest.fixture(autouse=True)
def context() -> Iterator[driver.Context]:
    """A context of this test's own: that of pycuda.autoinit may have been popped by another test in this process."""
    driver.init()
    context = driver.Device(0).make_context()
    yield context
    context.pop()


def test_values_go_in_and_come_out() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    array = gpuarray.to_gpu(values)
    assert (array.shape, array.dtype, array.nbytes, array.ndim, len(array)) == ((2, 3), np.float32, 24, 2, 2)
    assert np.array_equal(array.get(), values)
    array.set(values.T)  # not contiguous: copied in its own order
    assert np.array_equal(array.get().ravel(), values.T.ravel())
    filled = np.empty((2, 3), np.float32)
    assert array.get(filled) is filled
    assert np.array_equal(gpuarray.zeros_like(array).get(), np.zeros((2, 3), np.float32))
    assert gpuarray.empty(0, np.int32).get().shape == (0,)


def test_its_address_is_device_memory() -> None:
    array = gpuarray.empty_like(np.empty(4, np.int32))
    driver.memcpy_htod(array.ptr, np.array([1, 2, 3, 4], np.int32))
    assert array.ptr == int(array.gpudata)
    assert array.get().tolist() == [1, 2, 3, 4]


def test_what_does_not_fit_is_refused() -> None:
    array = gpuarray.zeros(4, np.float32)
    with pytest.raises(ValueError, match="got float64"):
        array.set(np.zeros(4))
    with pytest.raises(ValueError, match="wanted float32"):
        array.get(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="C-contiguous"):
        array.get(np.zeros(8, np.float32)[::2])


def test_arithmetic_is_refused() -> None:
    array = gpuarray.zeros(4, np.float32)
    with pytest.raises(UnsupportedError, match="NumPy"):
        _ = array + array
