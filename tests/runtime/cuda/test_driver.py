"""What the driver refuses becomes an exception that says what to do."""

import sys

import pytest
from runtime.cuda.fake_bindings import FakeBindings

from trine.errors import DeviceError, DeviceLostError, DeviceMemoryError, MissingDependencyError, NoDeviceError
from trine.runtime.cuda import driver as driver_module
from trine.runtime.cuda.driver import Driver, usable_driver


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


def test_out_of_memory_says_what_it_was_for(bindings):
    driver = Driver()
    bindings.fail["cuMemAlloc"] = "CUDA_ERROR_OUT_OF_MEMORY"
    with pytest.raises(DeviceMemoryError, match=r"cuda:0: the engine's weights needs 5 MiB; 3 of 8 MiB are free"):
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
