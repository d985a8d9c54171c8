"""pycuda's names on host memory: the life cycle of device memory, copies, and every refusal."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from new_process import in_new_process

import trine.compat.pycuda.driver as cuda
from trine.compat import memory
from trine.errors import TrineError


@pytest.fixture(autouse=True)
def context() -> Iterator[cuda.Context]:
    """A context of this test's own, current in its thread."""
    cuda.init()
    context = cuda.Device(0).make_context()
    yield context
    if cuda.Context.get_current() is context:
        context.pop()


def test_the_buffers_of_a_tensorrt_program() -> None:
    h_input = cuda.pagelocked_empty(12, dtype=np.float32)
    h_output = cuda.pagelocked_empty((3, 4), dtype=np.float32)
    d_input, d_output = cuda.mem_alloc(h_input.nbytes), cuda.mem_alloc(h_output.nbytes)
    stream = cuda.Stream()
    h_input[:] = np.arange(12)
    cuda.memcpy_htod_async(d_input, h_input, stream)
    cuda.memcpy_dtod_async(d_output, d_input, h_input.nbytes, stream)
    cuda.memcpy_dtoh_async(h_output, d_output, stream)
    stream.synchronize()
    np.testing.assert_array_equal(h_output, np.arange(12).reshape(3, 4))
    assert isinstance(stream.handle, int)
    assert stream.handle != cuda.Stream().handle
    assert stream.is_done()
    assert int(d_input) != int(d_output)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_, np.complex64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [7, (2, 3, 4), (), (0, 3), [2, 2]])
def test_host_arrays(dtype: Any, order: str, shape: Any) -> None:
    makers = (cuda.pagelocked_empty, cuda.pagelocked_zeros, cuda.aligned_empty, cuda.aligned_zeros, cuda.managed_empty)
    for make in makers:
        array = make(shape, dtype, order)
        want = np.zeros(shape, dtype, order)
        assert (array.shape, array.dtype, array.flags.writeable) == (want.shape, want.dtype, True)
        assert (array.flags.c_contiguous, array.flags.f_contiguous) == (
            want.flags.c_contiguous,
            want.flags.f_contiguous,
        )
        array[...] = 1
        assert (array == np.ones(shape, dtype)).all()
        if array.size:
            assert array.ctypes.data % 4096 == 0
    like = cuda.pagelocked_zeros_like(np.asfortranarray(np.ones((2, 3), dtype)))
    assert like.flags.f_contiguous
    assert (like == np.zeros((2, 3), dtype)).all()


def test_the_base_of_a_page_locked_array_frees_it() -> None:
    array = cuda.pagelocked_empty((4, 4), np.float32)
    device = cuda.mem_alloc(array.nbytes)
    assert isinstance(array.base, cuda.PagelockedHostAllocation)
    assert array.base.get_device_pointer() == array.ctypes.data
    array.base.free()
    array[:] = 1  # an error in CUDA; here the array has kept its pages
    with pytest.raises(cuda.LogicError, match=r"cuMemcpyHtoD failed: .* its memory \(64 bytes at 0x.*\) was freed"):
        cuda.memcpy_htod(device, array)
    with pytest.raises(cuda.LogicError, match="freed before"):
        array.base.free()


def test_memory_is_freed_when_collected() -> None:
    allocation = cuda.mem_alloc(64)
    address = int(allocation)
    array = cuda.pagelocked_empty(64, np.uint8)
    host = array.ctypes.data
    del allocation, array
    gc.collect()
    assert "freed" in (memory.refusal(address, 1) or "")
    assert "freed" in (memory.refusal(host, 1) or "")


def test_use_after_free_is_refused() -> None:
    allocation = cuda.mem_alloc(64)
    address = int(allocation)
    allocation.free()
    data = np.zeros(4, np.float32)
    with pytest.raises(cuda.LogicError, match=r"64 bytes at 0x.* were freed; keep it alive"):
        int(allocation)
    for use in (
        lambda: cuda.memcpy_htod(allocation, data),
        lambda: cuda.memcpy_htod(address, data),
        lambda: cuda.memcpy_dtoh(data, address),
        lambda: cuda.memset_d8(address, 0, 1),
        lambda: allocation.as_buffer(4),
    ):
        with pytest.raises(cuda.LogicError, match="freed"):
            use()
    with pytest.raises(cuda.LogicError, match="DeviceAllocation::free failed: invalid resource handle"):
        allocation.free()


def test_sizes_that_do_not_fit_are_refused() -> None:
    small, large = cuda.mem_alloc(16), cuda.mem_alloc(64)
    data = np.zeros(8, np.float32)
    with pytest.raises(cuda.LogicError, match=r"cuMemcpyHtoD failed.*32 bytes do not fit the 16 bytes"):
        cuda.memcpy_htod(small, data)
    with pytest.raises(cuda.LogicError, match=r"cuMemcpyDtoH failed.*32 bytes do not fit"):
        cuda.memcpy_dtoh(data, small)
    with pytest.raises(cuda.LogicError, match=r"cuMemcpyDtoD failed.*do not fit"):
        cuda.memcpy_dtod(large, small, 17)
    with pytest.raises(cuda.LogicError, match="cannot copy -1 bytes"):
        cuda.memcpy_dtod(large, small, -1)
    with pytest.raises(cuda.LogicError, match="32 bytes from byte 40 on do not fit the 64"):
        cuda.memcpy_htod(int(large) + 40, data)
    with pytest.raises(cuda.LogicError, match=r"cuMemsetD32 failed.*do not fit"):
        cuda.memset_d32(small, 0, 5)
    cuda.memcpy_htod(large, data)  # a larger one is fine
    for size in (0, -4):
        with pytest.raises(cuda.LogicError, match="cuMemAlloc failed: invalid argument"):
            cuda.mem_alloc(size)
    with pytest.raises(cuda.MemoryError, match="cuMemAlloc failed: out of memory") as caught:
        cuda.mem_alloc(1 << 60)
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, TrineError)


def test_addresses_that_are_none_are_refused() -> None:
    for address in (0, 12, -5, 1 << 62):
        with pytest.raises(cuda.LogicError, match="cuMemcpyHtoD failed: invalid argument"):
            cuda.memcpy_htod(address, np.zeros(4))
    device = cuda.mem_alloc(64)
    for wrong in (np.zeros(1, np.int64), torch.zeros(1, dtype=torch.int64), None, 1.5, "x"):
        with pytest.raises(TypeError, match="expected device memory"):
            cuda.memcpy_htod(wrong, np.zeros(4))
    for wrong in (torch.zeros(4), 7, None):
        with pytest.raises(TypeError, match="expected a NumPy array or another buffer"):
            cuda.memcpy_htod(device, wrong)


def test_memory_of_others_takes_copies() -> None:
    tensor = torch.zeros(3)
    cuda.memcpy_htod(tensor.data_ptr(), np.arange(3, dtype=np.float32))
    assert tensor.tolist() == [0, 1, 2]
    back = np.empty(3, np.float32)
    cuda.memcpy_dtoh(back, np.uintp(tensor.data_ptr()))
    assert back.tolist() == [0, 1, 2]


def test_only_contiguous_writeable_host_arrays() -> None:
    device = cuda.mem_alloc(64)
    grid = np.arange(16, dtype=np.float32).reshape(4, 4)
    with pytest.raises(ValueError, match=r"array of shape \(4, 2\) is not contiguous.*ascontiguousarray"):
        cuda.memcpy_htod(device, grid[:, ::2])
    with pytest.raises(ValueError, match="not contiguous"):
        cuda.memcpy_dtoh(grid[::2], device)
    with pytest.raises(ValueError, match="not contiguous"):
        cuda.memcpy_htod(device, memoryview(b"abcdef")[::2])
    fixed = grid.copy()
    fixed.flags.writeable = False
    for target in (fixed, b"1234"):
        with pytest.raises(ValueError, match="read-only"):
            cuda.memcpy_dtoh(target, device)
    with pytest.raises(TypeError, match="Python objects"):
        cuda.memcpy_htod(device, np.array(["a", None]))
    cuda.memcpy_htod(device, fixed)
    cuda.memcpy_htod(device, grid.T)  # Fortran order: its bytes as they lie
    np.testing.assert_array_equal(cuda.from_device(device, (4, 4), np.float32), grid)
    np.testing.assert_array_equal(cuda.from_device_like(device, grid.T), grid.T)


def test_buffers_of_any_kind() -> None:
    device = cuda.to_device(b"\x01\x02\x03\x04")
    target = bytearray(4)
    cuda.memcpy_dtoh(target, device)
    assert target == b"\x01\x02\x03\x04"
    cuda.memset_d8(int(device) + 1, 9, 2)
    assert device.as_buffer(4).tobytes() == b"\x01\x09\x09\x04"
    assert bytes(device.as_buffer(2, 2)) == b"\x09\x04"
    with pytest.raises(cuda.LogicError, match="as_buffer failed"):
        device.as_buffer(4, 1)
    cuda.memcpy_htod(device, np.float32(1.5))
    assert cuda.from_device(device, (), np.float32) == 1.5
    cuda.memcpy_htod(device, np.empty(0))  # nothing, like CUDA


def test_fills() -> None:
    device = cuda.mem_alloc(24)
    cuda.memset_d32(device, 0x01020304, 6)
    assert cuda.from_device(device, 6, np.uint32).tolist() == [0x01020304] * 6
    cuda.memset_d16(int(device) + 2, 7, 1)
    assert cuda.from_device(device, 4, np.uint16).tolist() == [0x0304, 7, 0x0304, 0x0102]
    cuda.memset_d2d8(device, 8, 1, 3, 3)
    rows = cuda.from_device(device, (3, 8), np.uint8)
    assert rows.tolist()[1:] == [[1, 1, 1, 1, 4, 3, 2, 1]] * 2  # the rest of each row is as it was
    with pytest.raises(cuda.LogicError, match="300 is no uint8"):
        cuda.memset_d8(device, 300, 1)
    with pytest.raises(cuda.LogicError, match="no multiple of 4"):
        cuda.memset_d32(int(device) + 1, 0, 1)
    with pytest.raises(cuda.LogicError, match="does not fit a pitch of 2"):
        cuda.memset_d2d8(device, 2, 0, 3, 1)


def test_pitch_and_information() -> None:
    allocation, pitch = cuda.mem_alloc_pitch(300, 4, 4)
    assert pitch >= 300
    assert memory.refusal(int(allocation), pitch * 4) is None
    with pytest.raises(cuda.LogicError, match="access_size must be 4, 8 or 16"):
        cuda.mem_alloc_pitch(300, 4, 3)
    free, total = cuda.mem_get_info()
    assert 0 < free <= total
    assert cuda.mem_alloc_like(np.zeros(5)).as_buffer(40).nbytes == 40


def test_arrays_that_cannot_be() -> None:
    with pytest.raises(cuda.LogicError, match="no negative dimension"):
        cuda.pagelocked_empty((2, -1), np.float32)
    with pytest.raises(cuda.LogicError, match="order must be 'C' or 'F'"):
        cuda.pagelocked_empty(2, np.float32, "X")
    with pytest.raises(TypeError, match="plain numbers"):
        cuda.pagelocked_empty(2, object)
    with pytest.raises(cuda.LogicError, match="power of two"):
        cuda.aligned_empty(2, np.float32, alignment=48)


def test_names_that_need_a_gpu_say_so() -> None:
    for name in ("SourceModule", "Memcpy2D", "In"):
        with pytest.raises(AttributeError, match=f"no {name}: .* runs no CUDA code"):
            getattr(cuda, name)
    assert not hasattr(cuda, "nonsense")
    assert all(hasattr(cuda, name) for name in cuda.__all__)


def test_it_needs_neither_torch_nor_onnx() -> None:
    program = "import sys, trine.compat.pycuda.autoinit; print(*{'torch', 'onnx', 'onnx_ir'} & set(sys.modules))"
    assert in_new_process(program) == ""
