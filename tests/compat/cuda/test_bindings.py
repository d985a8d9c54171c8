"""cuda-python's calls over host memory: what they answer, and that a wrong address is an error code, never a crash."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import trine.compat.cuda.cuda as old_driver
import trine.compat.cuda.cudart as old_runtime
from trine.compat.cuda.bindings import driver, nvrtc, runtime

SUCCESS = runtime.cudaError_t.cudaSuccess
INVALID = runtime.cudaError_t.cudaErrorInvalidValue
HANDLE = runtime.cudaError_t.cudaErrorInvalidResourceHandle
TO_DEVICE = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
TO_HOST = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost


def test_bytes_go_there_and_back_by_address_and_by_array() -> None:
    sent = np.arange(6, dtype=np.float32).reshape(2, 3)
    error, device = runtime.cudaMalloc(sent.nbytes)
    assert error == SUCCESS
    _, stream = runtime.cudaStreamCreate()
    assert runtime.cudaMemcpyAsync(device, sent.ctypes.data, sent.nbytes, TO_DEVICE, stream) == (SUCCESS,)
    _, pinned = runtime.cudaMallocHost(sent.nbytes)
    assert runtime.cudaMemcpy(pinned, device, sent.nbytes, TO_HOST) == (SUCCESS,)
    received = np.zeros_like(sent)
    assert runtime.cudaMemcpy(received, pinned, sent.nbytes, TO_HOST) == (SUCCESS,)
    assert runtime.cudaStreamSynchronize(stream) == (SUCCESS,)
    np.testing.assert_array_equal(received, sent)
    assert runtime.cudaMemset(device, 255, 4) == (SUCCESS,)
    runtime.cudaMemcpy(received, device, 8, TO_HOST)
    assert received.view(np.uint8).ravel()[:4].tolist() == [255] * 4
    assert received[0, 1] == 1
    assert runtime.cudaFree(device) == runtime.cudaFreeHost(pinned) == runtime.cudaStreamDestroy(stream) == (SUCCESS,)


def test_what_would_crash_is_an_error_code_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    array = np.zeros(4, np.float32)
    _, device = runtime.cudaMalloc(8)
    with caplog.at_level(logging.ERROR, logger="trine"):
        assert runtime.cudaMemcpy(device, array, 16, TO_DEVICE) == (INVALID,)  # longer than the block
        assert runtime.cudaMemcpy(array, 5, 16, TO_HOST) == (INVALID,)  # no address
        assert runtime.cudaMemcpy(array, device, 32, TO_HOST) == (INVALID,)  # longer than the array
        assert runtime.cudaFree(device) == (SUCCESS,)
        assert runtime.cudaFree(device) == (INVALID,)
        assert runtime.cudaMemcpy(array, device, 8, TO_HOST) == (INVALID,)
        assert runtime.cudaFree(0) == (SUCCESS,)  # as free(NULL)
        assert runtime.cudaMalloc(1 << 60) == (runtime.cudaError_t.cudaErrorMemoryAllocation, None)
        _, stream = runtime.cudaStreamCreate()
        runtime.cudaStreamDestroy(stream)
        assert runtime.cudaStreamSynchronize(stream) == (HANDLE,)
        assert runtime.cudaSetDevice(1) == (runtime.cudaError_t.cudaErrorInvalidDevice,)
        assert runtime.cudaStreamBeginCapture(0, 0)[0].value == 900
    assert "do not fit the 8 bytes" in caplog.text
    assert "was freed" in caplog.text
    assert "was destroyed" in caplog.text
    assert runtime.cudaGetErrorName(INVALID) == (SUCCESS, b"cudaErrorInvalidValue")
    assert runtime.cudaGetErrorString(HANDLE) == (SUCCESS, b"invalid resource handle")


def test_events_take_time() -> None:
    (_, begin), (_, end), (_, never) = (runtime.cudaEventCreate() for _ in range(3))
    runtime.cudaEventRecord(begin, 0)
    sum(range(20000))
    runtime.cudaEventRecord(end, 0)
    error, milliseconds = runtime.cudaEventElapsedTime(begin, end)
    assert error == SUCCESS
    assert 0 < milliseconds < 10_000
    assert runtime.cudaEventElapsedTime(begin, never) == (HANDLE, None)


def test_the_driver_wants_a_beginning_and_a_context() -> None:
    code = (
        "from trine.compat.cuda.bindings import driver as cuda\n"
        "print(int(cuda.cuDeviceGet(0)[0]), int(cuda.cuInit(0)[0]), int(cuda.cuMemAlloc(4)[0]))\n"
        "device = cuda.cuDeviceGet(0)[1]\n"
        "_, context = cuda.cuCtxCreate(None, 0, device)\n"
        "print(int(cuda.cuMemAlloc(4)[0]), int(cuda.cuCtxDestroy(context)[0]), int(cuda.cuMemAlloc(4)[0]))\n"
        "_, context = cuda.cuCtxCreate(0, device)\n"
        "error, pointer = cuda.cuMemAlloc(8)\n"
        "data = bytearray(8)\n"
        "there = cuda.cuMemcpyHtoD(pointer, b'12345678', 8)\n"
        "print(int(there[0]), int(cuda.cuMemcpyDtoH(data, int(pointer), 8)[0]), data)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:3] == ["3 0 201", "0 0 201", "0 0 bytearray(b'12345678')"], result.stderr
    assert "call cuInit(0) first" in result.stderr
    with pytest.raises(TypeError):
        driver.cuCtxCreate(0)
    assert driver.cuGetErrorName(driver.CUresult(201))[1] == b"CUDA_ERROR_INVALID_CONTEXT"


def test_older_names_are_the_same_functions_and_others_say_what_is_here() -> None:
    assert old_driver.cuMemAlloc is driver.cuMemAlloc
    assert old_runtime.cudaMemcpy is runtime.cudaMemcpy
    assert nvrtc.nvrtcGetErrorString(nvrtc.nvrtcResult(6))[1] == b"NVRTC_ERROR_COMPILATION"
    for module, name in ((driver, "cuLaunchKernel"), (runtime, "cudaGraphLaunch"), (nvrtc, "nvrtcCreateProgram")):
        with pytest.raises(AttributeError, match="runs no kernels"):
            getattr(module, name)


PROGRAM = """
from cuda.bindings import driver, runtime
from cuda import cuda, cudart
import tensorrt
assert cuda.cuInit is driver.cuInit and cudart.cudaMalloc is runtime.cudaMalloc
error, stream = cudart.cudaStreamCreate()
print(runtime.__name__, int(stream) != 0)
"""


def test_an_unmodified_program_finds_the_stand_in_when_asked(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "trine.compat.run", "--cuda", "host", str(tmp_path / "program.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == "trine.compat.cuda.bindings.runtime True\n", result.stderr


def test_a_program_keeps_a_cuda_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "__init__.py").write_text("mine = True\n")
    (tmp_path / "cuda" / "cudart.py").write_text("")
    (tmp_path / "program.py").write_text("import cuda\nprint(cuda.mine)\n")
    command = [sys.executable, "-m", "trine.compat.run", str(tmp_path / "program.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == "True\n", result.stderr
