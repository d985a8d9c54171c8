"""What the driver refuses becomes an exception that says what to do."""

import sys
from types import SimpleNamespace

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
from trine.runtime.cuda import bindings as bindings_module
from trine.runtime.cuda import driver as driver_module
from trine.runtime.cuda.driver import Driver, usable_driver
from trine.runtime.cuda.faults import KERNEL_FAULTS
from trine.runtime.cuda.parameters import ParameterBlock


@pytest.fixture
def bindings(monkeypatch):
    made = FakeBindings()
    monkeypatch.setattr(driver_module, "usable_driver", lambda: made)
    return made


def test_what_a_gpu_says_of_itself(bindings):
    driver = Driver()
    assert (driver.capability, driver.name, driver.memory()) == (90, "NVIDIA Test", (3 << 20, 8 << 20))
    assert driver.shared_bytes == 101376


@pytest.mark.parametrize(
    ("gpus", "ordinal", "visible", "text"),
    [
        (1, 1, None, r"cuda:1: there is 1 GPU here; the last is cuda:0$"),
        (1, -1, None, "there is 1 GPU here"),
        (2, 2, "0,3", r"there are 2 GPUs here; the last is cuda:1 \(CUDA_VISIBLE_DEVICES is '0,3'"),
        (0, 0, None, 'there are 0 GPUs here; load the engine with device="cpu"'),
    ],
)
def test_a_gpu_that_is_not_there(monkeypatch, gpus, ordinal, visible, text):
    monkeypatch.setattr(driver_module, "usable_driver", lambda: FakeBindings(gpus))
    see_only(monkeypatch, visible)
    with pytest.raises(NoDeviceError, match=text):
        Driver(ordinal)


def see_only(monkeypatch, visible):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("status", "visible", "text"),
    [
        ("CUDA_ERROR_NO_DEVICE", None, "no GPU is to be seen; see nvidia-smi, and start a container with --gpus all$"),
        ("CUDA_ERROR_NO_DEVICE", "", "CUDA_VISIBLE_DEVICES is ''"),
        ("CUDA_ERROR_INVALID_DEVICE", "7", "CUDA_VISIBLE_DEVICES is '7'"),
        ("CUDA_ERROR_NOT_INITIALIZED", None, r'forked .*get_context\("spawn"\)'),
        ("CUDA_ERROR_STUB_LIBRARY", None, "take its folder, stubs, from LD_LIBRARY_PATH"),
        ("CUDA_ERROR_SYSTEM_NOT_READY", None, "start the service nvidia-fabricmanager"),
        ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", None, "restart the machine"),
        ("CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", None, "cuda-compat from LD_LIBRARY_PATH, or update the driver"),
        ("CUDA_ERROR_DEVICE_NOT_LICENSED", None, "see nvidia-smi -q"),
        ("CUDA_ERROR_UNKNOWN", None, "see whether nvidia-smi finds a GPU, and restart the machine if it does not"),
    ],
)
def test_a_driver_that_does_not_start(monkeypatch, status, visible, text):
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=FakeBindings()))
    monkeypatch.setattr(bindings_module.ctypes, "CDLL", lambda name: None)
    see_only(monkeypatch, visible)
    usable_driver.cache_clear()
    sys.modules["cuda.bindings"].driver.fail["cuInit"] = status
    with pytest.raises(NoDeviceError, match=f"the NVIDIA driver does not start: {status}: .*{text}"):
        usable_driver()


def test_no_driver(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=FakeBindings()))
    monkeypatch.setattr(bindings_module.ctypes, "CDLL", missing)
    usable_driver.cache_clear()
    with pytest.raises(NoDeviceError, match=r"no NVIDIA driver \(libcuda\) .*; install NVIDIA's driver"):
        usable_driver()


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        *(
            (name, DeviceLostError, f"{name} in cuStreamSynchronize: {cause}, and this process .*; start it anew")
            for name, cause in KERNEL_FAULTS.items()
        ),
        ("CUDA_ERROR_NOT_INITIALIZED", NoDeviceError, r'forked .*get_context\("spawn"\)'),
        ("CUDA_ERROR_INVALID_IMAGE", NoDeviceError, "update NVIDIA's driver, build the engine"),
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


def test_what_the_driver_s_manual_calls_lost():
    """Of which it says that the process must be terminated and relaunched, or that all memory is lost."""
    driver = pytest.importorskip("cuda.bindings.driver")
    assert KERNEL_FAULTS.keys() <= {each.name for each in driver.CUresult} | {"CUDA_ERROR_TENSOR_MEMORY_LEAK"}
    lost = (214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911)
    assert KERNEL_FAULTS.keys() == {driver.CUresult(each).name for each in lost}


def test_only_kernels_are_the_engine_s_fault(bindings):
    driver = Driver()
    for name in ("CUDA_ERROR_ASSERT", "CUDA_ERROR_ECC_UNCORRECTABLE"):
        bindings.fail["cuStreamSynchronize"] = name
        with pytest.raises(DeviceLostError) as caught:
            driver.synchronize(0)
        assert ("report the engine" in str(caught.value)) is (name == "CUDA_ERROR_ASSERT")


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


@pytest.mark.parametrize(
    ("capability", "text"),
    [
        ((9, 0), r'an sm_90, .* build it with target="sm_90", or load it with device="cpu"'),
        ((7, 5), r'an sm_75, .* engines can be built for sm_80, .* only; load it with device="cpu"'),
    ],
)
def test_machine_code_of_another_architecture(monkeypatch, capability, text):
    bindings = FakeBindings(capability=capability)
    monkeypatch.setattr(driver_module, "usable_driver", lambda: bindings)
    driver = Driver()
    bindings.fail["cuModuleLoadData"] = "CUDA_ERROR_NO_BINARY_FOR_GPU"
    with pytest.raises(NoDeviceError, match=text):
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
    with pytest.raises(DeviceError, match="cuda:0: what was open on it has been closed"), driver.current:
        pass
    assert names(bindings)[-1] == "cuDevicePrimaryCtxRelease", "a context that may be gone is not touched"


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
