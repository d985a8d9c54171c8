"""Which device an engine runs on, and what is said when it cannot be the one asked for."""

import datetime
import logging
from dataclasses import replace

import pytest
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, X, Y, answer, plan, rows_of

from trine.backends.cuda.target import TARGETS
from trine.engine.manifest import Manifest
from trine.errors import ConfigError, EngineFormatError, MissingDependencyError, NoDeviceError
from trine.profile import OptimizationProfile, ShapeRange
from trine.runtime.cuda import architectures
from trine.runtime.cuda import driver as driver_module
from trine.runtime.cuda.choose_device import open_on_gpu
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.plan_bytes import plan_to_bytes

PLANS = {"cpu": b"{}", "cuda_sm_90": plan_to_bytes(plan())}


def manifest(inputs=(X,)):
    ranges = {info.name: ShapeRange((1, 3), (1, 3), (9, 3)) for info in inputs}
    return Manifest(
        name="net",
        source="test",
        inputs=inputs,
        outputs=(Y,),
        profile=OptimizationProfile(ranges),
        precision="fp32",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions={},
    )


@pytest.fixture
def gpu(monkeypatch):
    """Puts a GPU of this capability here."""

    def put(capability):
        made = RecordingDriver(STAND_INS, capability)
        monkeypatch.setattr(driver_module, "Driver", lambda ordinal=0: made)
        return made

    return put


@pytest.fixture
def refuse(monkeypatch):
    def with_error(error):
        def driver(ordinal=0):
            raise error

        monkeypatch.setattr(driver_module, "Driver", driver)

    return with_error


@pytest.mark.parametrize("device", [None, "cuda", "cuda:0"])
def test_the_gpu_where_the_engine_has_its_kernels(gpu, device):
    gpu(90)
    found = open_on_gpu(device, PLANS, manifest())
    assert found is not None
    opened, executor = found
    assert (opened.target, executor.device) == ("sm_90", "cuda:0")
    x = rows_of(2)
    assert (executor.open_session().run([x], [None])[0] == answer(x)).all()


def test_cpu_asked_for_touches_no_driver(refuse):
    refuse(AssertionError("asked the driver"))
    assert open_on_gpu("cpu", PLANS, manifest()) is None


def test_an_engine_for_cpus_touches_no_driver(refuse):
    refuse(AssertionError("asked the driver"))
    assert open_on_gpu(None, {"cpu": b"{}"}, manifest()) is None
    with pytest.raises(NoDeviceError, match=r'net: the engine holds no kernels for GPUs; build .* device="cuda"'):
        open_on_gpu("cuda", {"cpu": b"{}"}, manifest())


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "CUDA", "", "cuda:1x", "sm_90"])
def test_unknown_devices(device):
    with pytest.raises(ConfigError, match="allowed"):
        open_on_gpu(device, PLANS, manifest())


def test_without_a_gpu_the_cpu_answers_and_the_log_says_so(refuse, caplog):
    refuse(NoDeviceError("no NVIDIA driver (libcuda) is installed here"))
    with caplog.at_level(logging.INFO, "trine"):
        assert open_on_gpu(None, PLANS, manifest()) is None
    assert "holds kernels for sm_90: no NVIDIA driver" in caplog.text
    assert "running on the CPU" in caplog.text


def test_asked_for_without_a_gpu_says_what_the_file_holds(refuse):
    refuse(NoDeviceError("no NVIDIA driver (libcuda) is installed here"))
    with pytest.raises(NoDeviceError, match=r"net: the engine holds kernels for sm_90: no NVIDIA driver"):
        open_on_gpu("cuda", PLANS, manifest())


def test_without_the_bindings(refuse):
    refuse(MissingDependencyError("pip install 'trine[cuda]'"))
    assert open_on_gpu(None, PLANS, manifest()) is None
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_on_gpu("cuda", PLANS, manifest())


@pytest.mark.parametrize(
    ("capability", "remedy"),
    [
        (89, 'build it with target="sm_89", or load it with device="cpu"'),
        (75, 'engines can be built for sm_80, sm_86, sm_89, sm_90, sm_100 only; load it with device="cpu"'),
        (87, "engines can be built for"),
        (120, "engines can be built for"),
    ],
)
def test_another_architecture(gpu, capability, remedy):
    driver = gpu(capability)
    assert open_on_gpu(None, PLANS, manifest()) is None
    here = rf"cuda:0 \(a recording driver\) is an sm_{capability}; {remedy}"
    with pytest.raises(NoDeviceError, match=rf"kernels for sm_90: {here}"):
        open_on_gpu("cuda", PLANS, manifest())
    with pytest.raises(NoDeviceError, match=remedy):
        CudaExecutor(plan(), (X,), (Y,), driver=driver)
    assert driver.count("close") == 3


def for_target(target, shared_bytes=4096):
    kernels = tuple(replace(kernel, shared_bytes=shared_bytes) for kernel in plan().kernels)
    return plan_to_bytes(replace(plan(), target=target, kernels=kernels))


@pytest.mark.parametrize(
    ("capability", "targets", "taken"),
    [
        (86, ("sm_80", "sm_86"), "sm_86"),
        (86, ("sm_80",), "sm_80"),
        (89, ("sm_80", "sm_86", "sm_90"), "sm_86"),
        (89, ("sm_80",), "sm_80"),
        (80, ("sm_86",), None),  # an earlier GPU
        (87, ("sm_80", "sm_86"), None),  # a Jetson board
        (103, ("sm_100",), None),  # Triton makes machine code of one architecture there
        (91, ("sm_90",), None),
    ],
)
def test_machine_code_of_an_earlier_architecture(gpu, caplog, capability, targets, taken):
    gpu(capability)
    with caplog.at_level(logging.INFO, "trine"):
        found = open_on_gpu(None, {f"cuda_{name}": for_target(name) for name in targets}, manifest())
    assert (found and found[0].target) == taken
    if found is not None and taken is not None:
        said = f"is an sm_{capability}; running the kernels for {taken}" in caplog.text
        assert said is (taken != f"sm_{capability}")
        x = rows_of(2)
        assert (found[1].open_session().run([x], [None])[0] == answer(x)).all()


def test_machine_code_that_wants_more_shared_memory_than_is_here(gpu):
    gpu(89)
    large = {"cuda_sm_80": for_target("sm_80", 150_000)}
    with pytest.raises(NoDeviceError, match=r"have 101376 bytes .*: sm_80's take 150000; build it with target=.sm_89"):
        open_on_gpu("cuda", large, manifest())
    found = open_on_gpu("cuda", {**large, "cuda_sm_86": for_target("sm_86")}, manifest())
    assert found is not None
    assert found[0].target == "sm_86"


def test_the_runtime_knows_every_target():
    assert tuple(TARGETS) == architectures.TARGETS


def test_a_damaged_plan_is_not_passed_over(gpu):
    driver = gpu(90)
    with pytest.raises(EngineFormatError, match="plan/cuda_sm_90"):
        open_on_gpu(None, {**PLANS, "cuda_sm_90": b"TRNCUDA1 and then nonsense"}, manifest())
    assert driver.count("close") == 1


def test_a_plan_of_another_engine(gpu):
    gpu(90)
    with pytest.raises(EngineFormatError, match="the manifest says"):
        open_on_gpu(None, PLANS, manifest((X, X)))
