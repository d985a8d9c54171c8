"""What the driver refuses becomes an exception that says what to do."""

import sys

import pytest
from runtime.cuda.fake_bindings import FakeBindings

from trine.errors import (
    DeviceError,
    DeviceLostError,
    DeviceMemoryError,
    InputError,
    MissingDependencyError,
    NoDeviceError,
)
from trine.runtime.cuda import driver as driver_module
from trine.runtime.cuda.driver import Driver, usable_driver
from trine.runtime.cuda.parameters import ParameterBlock


@pytest.fixture
def bindings(monkeypatch):
    made = FakeBindings()
    monkeypatch.setattr(driver_module, "usable_driver", lambda: made)
    return made


def test_what_a_gpu_says_of_itself(bindings):
    driver = Driver()
    assert (driver.capability, driver.name, driver.memory()) == (90, "NVIDIA Test", (3 << 20, 8 << 20))


@pytest.mark.parametrize(("ordinal", "text"), [(1, "there is 1 GPU"), (-1, "there is 1 GPU")])
def test_a_gpu_that_is_not_there(bindings, ordinal, text):
    with pytest.raises(NoDeviceError, match=text):
        Driver(ordinal)


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        ("CUDA_ERROR_ILLEGAL_ADDRESS", DeviceLostError, "can no longer use the GPU; start it anew"),
        ("CUDA_ERROR_LAUNCH_FAILED", DeviceLostError, "CUDA_ERROR_LAUNCH_FAILED in cuStreamSynchronize"),
        ("CUDA_ERROR_INVALID_VALUE", DeviceError, "cuda:0: CUDA_ERROR_INVALID_VALUE in cuStreamSynchronize"),
        ("CUDA_ERROR_OUT_OF_MEMORY", DeviceMemoryError, "3 of 8 MiB are free"),
    ],
)
def test_faults(bindings, status, kind, text):
    driver = Driver()
    bindings.fail["cuStreamSynchronize"] = status
    with pytest.raises(DeviceError, match=text) as caught:
        driver.synchronize(0)
    assert type(caught.value) is kind


def test_out_of_memory_says_what_it_was_for(bindings, monkeypatch):
    driver = Driver()
    bindings.fail["cuMemAlloc"] = "CUDA_ERROR_OUT_OF_MEMORY"
    with pytest.raises(DeviceMemoryError, match=r"cuda:0: the engine's weights needs 5 MiB; 3 of 8 MiB are free"):
        driver.allocate(5 << 20, "the engine's weights")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceMemoryError, match=r"smaller batch; torch\.cuda\.empty_cache\(\) gives back what is kept"):
        driver.allocate(5 << 20, "the engine's weights")
    del bindings.fail["cuMemAlloc"]
    assert driver.allocate(5 << 20, "the engine's weights") == 4096


def test_machine_code_of_another_architecture(bindings):
    driver = Driver()
    bindings.fail["cuModuleLoadData"] = "CUDA_ERROR_NO_BINARY_FOR_GPU"
    with pytest.raises(NoDeviceError, match=r'build the engine with target="sm_90"'):
        driver.load_module(b"cubin")


@pytest.mark.parametrize(("shared", "asked"), [(48 * 1024, False), (48 * 1024 + 1, True)])
def test_much_shared_memory_is_asked_for(bindings, shared, asked):
    Driver().function("module", "kernel", shared)
    assert ("cuFuncSetAttribute" in [name for name, _ in bindings.calls]) is asked


def test_without_the_bindings(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    usable_driver.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"pip install 'trine\[cuda\]'"):
        usable_driver()


def names(bindings):
    return [name for name, _ in bindings.calls]


def test_a_thread_that_has_a_gpu_keeps_it(bindings):
    driver = Driver()  # cuCtxGetCurrent says that there is one
    assert "cuCtxSetCurrent" not in names(bindings)
    bindings.calls.clear()
    with driver.current:
        driver.memory()
    assert names(bindings) == ["cuCtxPushCurrent", "cuMemGetInfo", "cuCtxPopCurrent"]


def test_a_thread_without_one_gets_it_until_the_driver_is_closed(bindings):
    bindings.answer("cuCtxGetCurrent", 0)
    driver = Driver()
    assert ("cuCtxSetCurrent", (4096,)) in bindings.calls
    bindings.answer("cuCtxGetCurrent", 4096)
    driver.close()
    driver.close()
    assert names(bindings)[-2:] == ["cuCtxSetCurrent", "cuDevicePrimaryCtxRelease"]


def test_the_first_error_is_the_one_that_is_shown(bindings):
    driver = Driver()
    bindings.fail["cuCtxPopCurrent"] = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(KeyError), driver.current:
        raise KeyError
    with pytest.raises(DeviceLostError), driver.current:
        pass


@pytest.mark.parametrize("status", ["CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA_ERROR_INVALID_DEVICE"])
def test_a_gpu_that_takes_no_work(bindings, status):
    bindings.fail["cuDevicePrimaryCtxRetain"] = status
    with pytest.raises(NoDeviceError, match=f"{status} .*the GPU takes no work"):
        Driver()


def test_no_memory_for_a_context(bindings):
    bindings.fail.update(cuDevicePrimaryCtxRetain="CUDA_ERROR_OUT_OF_MEMORY", cuMemGetInfo="CUDA_ERROR_INVALID_CONTEXT")
    with pytest.raises(DeviceMemoryError, match="close other programs that use the GPU"):
        Driver()


def test_streams_of_this_gpu_and_of_others(bindings):
    driver = Driver()
    driver.check_stream(7)  # its context is the GPU's primary one
    bindings.answer("cuStreamGetCtx", 8192)
    bindings.answer("cuCtxGetDevice", 1)
    with pytest.raises(
        InputError, match=r"stream: expected one of cuda:0's, got one of cuda:1's; .* or load the engine with device="
    ):
        driver.check_stream(7)
    assert names(bindings)[-3:] == ["cuCtxPushCurrent", "cuCtxGetDevice", "cuCtxPopCurrent"]
    bindings.answer("cuCtxGetDevice", 0)
    with pytest.raises(InputError, match=r"got one of another context there; .* import pycuda\.autoprimaryctx"):
        driver.check_stream(7)
    bindings.fail["cuStreamGetCtx"] = "CUDA_ERROR_INVALID_HANDLE"
    with pytest.raises(InputError, match=r"got one that is none: .*CUDA_ERROR_INVALID_HANDLE.*; pass one that"):
        driver.check_stream(7)
    bindings.fail["cuStreamGetCtx"] = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(DeviceLostError):
        driver.check_stream(7)


def test_a_stream_that_is_being_captured(bindings):
    driver = Driver()
    bindings.answer("cuStreamIsCapturing", 1)
    with pytest.raises(InputError, match=r"captured into a CUDA graph, .* Call the engine outside of the capture"):
        driver.check_stream(7)
    bindings.fail["cuStreamIsCapturing"] = "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"  # of the default stream
    with pytest.raises(InputError, match="captured into a CUDA graph"):
        driver.check_stream(0)
    bindings.fail["cuStreamIsCapturing"] = "CUDA_ERROR_LAUNCH_FAILED"
    with pytest.raises(DeviceLostError):
        driver.check_stream(7)


def test_whether_an_event_has_happened(bindings):
    driver = Driver()
    assert driver.is_done("event")
    bindings.fail["cuEventQuery"] = "CUDA_ERROR_NOT_READY"
    assert not driver.is_done("event")
    bindings.fail["cuEventQuery"] = "CUDA_ERROR_LAUNCH_FAILED"
    with pytest.raises(DeviceLostError):
        driver.is_done("event")


def test_whose_memory_an_address_is(bindings):
    driver = Driver()
    found = {"ordinal": 0, "managed": False}
    bindings._answers["cuPointerGetAttribute"] = lambda kind, address: found[kind]
    assert driver.device_of(4096) == 0
    found["ordinal"] = 1
    assert driver.device_of(4096) == 1
    found["managed"] = True  # it goes where it is used
    assert driver.device_of(4096) == 0
    found["ordinal"] = -2  # of no device
    assert driver.device_of(4096) is None
    bindings.fail["cuPointerGetAttribute"] = "CUDA_ERROR_INVALID_VALUE"
    assert driver.device_of(4096) is None
    bindings.fail["cuPointerGetAttribute"] = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(DeviceLostError):
        driver.device_of(4096)


def test_no_pinned_memory_is_the_hosts_fault(bindings):
    driver = Driver()
    bindings.fail["cuMemHostAlloc"] = "CUDA_ERROR_OUT_OF_MEMORY"
    with pytest.raises(DeviceMemoryError, match=r"the host, not the GPU, has no 5 MiB .*; free host memory") as caught:
        driver.allocate_pinned(5 << 20)
    assert "MiB are free" not in str(caught.value)
    del bindings.fail["cuMemHostAlloc"]
    assert driver.allocate_pinned(5 << 20) == 4096


@pytest.mark.parametrize(("cluster", "said"), [((1, 1, 1), 0), ((2, 1, 1), 1)])
def test_clusters_are_said_to_the_graph(bindings, cluster, said):
    block = ParameterBlock([bytes(8)])
    Driver().add_kernel("graph", [], "function", (4, 1, 1), 128, 0, block, cluster)
    assert names(bindings).count("cuGraphKernelNodeSetAttribute") == said


def test_a_launch_that_starts_early_has_an_edge_of_its_own(bindings):
    block = ParameterBlock([bytes(8)])
    bindings.answer("cuGraphAddKernelNode", "second")
    Driver().add_kernel("graph", ["first"], "function", (4, 1, 1), 128, 0, block, early=True)
    ((_, added),) = [call for call in bindings.calls if call[0] == "cuGraphAddKernelNode"]
    assert added[1:3] == ([], 0)
    ((_, (graph, before, after, edges, count)),) = [call for call in bindings.calls if "AddDependencies" in call[0]]
    assert (graph, before, after, count) == ("graph", ["first"], ["second"], 1)
    assert (edges[0].type, edges[0].from_port) == (1, 1)


def test_a_driver_without_early_starts_says_so(bindings, monkeypatch):
    def missing(*args):
        raise RuntimeError('Function "cuGraphAddDependencies_v2" not found')

    monkeypatch.setattr(bindings, "cuGraphAddDependencies_v2", missing, raising=False)
    with pytest.raises(DeviceError, match=r"since CUDA 12\.3"):
        Driver().add_kernel("graph", ["first"], "function", (4, 1, 1), 128, 0, ParameterBlock([bytes(8)]), early=True)
