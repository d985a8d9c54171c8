"""Builds for a GPU that is not here: compiled for its architecture, verified in NumPy, run by the CPU's plan."""

import logging

import numpy as np
import pytest
import torch
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import address_of

import trine
from trine.backends.cuda import compiler, dependent_launch
from trine.builder import cuda as cuda_builder
from trine.engine.inspect_cuda import inspect_cuda_plans
from trine.errors import ConfigError, MissingDependencyError, NoDeviceError, UnsupportedError
from trine.runtime.cuda import choose_device
from trine.runtime.cuda import driver as driver_module
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.plan_bytes import plan_from_bytes

pytestmark = pytest.mark.skipif(
    not cuda_builder.importlib.util.find_spec("triton"), reason="compiles kernels with Triton, which is not installed"
)


class Net(torch.nn.Module):
    """A stem, a depthwise convolution with squeeze-and-excite, a pointwise one with a residual, a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.BatchNorm2d(16), torch.nn.SiLU())
        self.depthwise = torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3, 1, 1, groups=16), torch.nn.SiLU())
        self.down, self.up = torch.nn.Conv2d(16, 4, 1), torch.nn.Conv2d(4, 16, 1)
        self.project = torch.nn.Conv2d(16, 16, 1)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, image):
        x = self.stem(image)
        y = self.depthwise(x)
        scale = torch.sigmoid(self.up(torch.relu(self.down(y.mean((2, 3), keepdim=True)))))
        return self.head((self.project(y * scale) + x).mean((2, 3)))


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """As on a machine without one, so that these tests do the same everywhere."""

    def driver(ordinal=0):
        raise NoDeviceError("no NVIDIA driver (libcuda) is installed here")

    for module in (driver_module, __import__("trine.backends.cuda.device_timer", fromlist=["Driver"])):
        monkeypatch.setattr(module, "Driver", driver)


@pytest.fixture(autouse=True, scope="module")
def weights_are_large():
    """Large enough to be fetched ahead, though those of this network are not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dependent_launch, "_LEAST_FETCHED", 256)
        yield


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cuda")


def picture(rows=2):
    return torch.from_numpy(np.random.default_rng(rows).standard_normal((rows, 3, 32, 32)).astype(np.float32))


def build(net, folder, **options):
    options = {"target": "sm_90", "precision": "fp16", "batch": (1, 2, 2), **options}
    return trine.build(net, picture(), timing_cache=folder / "timings.json", kernel_cache=folder / "kernels", **options)


@pytest.fixture(scope="module")
def path(net, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver_module, "usable_driver", _no_driver)
        engine = build(net, folder)
    engine.save(folder / "net.trine")
    return folder / "net.trine"


def _no_driver():
    raise NoDeviceError("no NVIDIA driver (libcuda) is installed here")


def test_the_file_has_a_plan_for_the_target_and_one_for_cpus(path):
    with trine.load(path) as engine:
        assert set(engine.plans) == {"cpu", "cuda_sm_90"}
        assert (engine.tactic in ("openvino", "onnxruntime"), engine.device) == (True, "cpu")
        assert engine.manifest.precision == "fp16"
        (plan,) = inspect_cuda_plans(engine.plans)
    assert [bucket["rows"] for bucket in plan["buckets"]] == [1, 2]
    assert (plan["target"], plan["device_name"]) == ("sm_90", "")
    assert all(bucket["early"] for bucket in plan["buckets"])
    kinds = {group["kind"] for group in plan["buckets"][0]["groups"]}
    assert {"Conv", "DepthwiseConv", "SqueezeExcite"} <= kinds
    assert all(group["bytes"] > 0 for bucket in plan["buckets"] for group in bucket["groups"])


def test_every_launch_stays_inside_of_the_arena_and_the_weights(path):
    with trine.load(path) as engine:
        plan = plan_from_bytes(engine.plans["cuda_sm_90"])
    assert all(bytes(kernel.cubin[:4]) == b"\x7fELF" for kernel in plan.kernels)
    for bucket in plan.buckets:
        assert bucket.launches
        for launch in bucket.launches:
            for place, first, end in (*launch.reads, *launch.writes):
                assert 0 <= first < end
                if place == "arena":
                    assert end <= bucket.arena_bytes


def test_a_launch_fetches_what_the_next_groups_read(path):
    with trine.load(path) as engine:
        plan = plan_from_bytes(engine.plans["cuda_sm_90"])
    for bucket in plan.buckets:
        fetched = {}
        for launch in bucket.launches:
            assert fetched.setdefault(launch.group, launch.ahead) == launch.ahead, "one group, one weight"
        for group, (offset, size) in fetched.items():
            assert offset + size <= plan.weight_bytes
            later = [weight for each in bucket.launches if each.group > group for weight in _weights_of(each)]
            assert not size or (size >= 256 and offset in later)
        last = max(fetched)
        assert fetched[last] == (0, 0)
        assert len(set(fetched.values())) >= 3


def _weights_of(launch):
    """Offsets of those that it reads."""
    bases = [a[1]["base"] if a[0] == "tensormap" else a for a in launch.arguments]
    return [base[1] for base in bases if base[0] == "weight"]


def test_a_session_takes_the_plan(path):
    """Every parameter is packed, every address lies in memory that was allocated for it; nothing is computed."""
    with trine.load(path) as engine:
        plan = plan_from_bytes(engine.plans["cuda_sm_90"])
        driver = RecordingDriver()
        executor = CudaExecutor(plan, engine.inputs, engine.outputs, driver=driver)
    session = executor.open_session()
    for rows, bucket in zip((1, 2), plan.buckets, strict=True):
        session.run([picture(rows).numpy()], [None])
        graph = driver.graphs[-1]
        for node, launch in zip(graph.nodes, bucket.launches, strict=True):
            kernel = plan.kernels[launch.kernel]
            assert (node.grid, node.threads, node.shared_bytes) == (launch.grid, kernel.threads, kernel.shared_bytes)
            places = [argument[0] for argument in launch.arguments]
            if "tensormap" in places:
                continue  # one argument, several parameters
            for place, value in zip(places, node.values, strict=False):
                if place in ("arena", "weight", "input", "output"):
                    driver.array(address_of(value), np.uint8, 1)
    executor.close()
    assert driver.nothing_is_held()


def test_it_was_verified_on_the_reference_device(path):
    with trine.load(path) as engine:
        evidence = engine.manifest.evidence
    assert evidence["passed"]
    errors = [row["metrics"]["relative_error"] for row in evidence["rows"]]
    assert 1e-6 < max(errors) < 1e-2, "fp16 was computed in, not the CPU's fp32"


@pytest.mark.parametrize("rows", [1, 2])
def test_here_the_cpu_answers_and_is_right(path, net, rows, caplog):
    with caplog.at_level(logging.INFO, "trine"), trine.load(path) as engine:
        got = engine(picture(rows))
    with torch.no_grad():
        want = net(picture(rows))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert "running on the CPU" in caplog.text


def test_asked_for_the_gpu_it_says_what_the_file_holds(path):
    with pytest.raises(NoDeviceError, match="holds kernels for sm_90: no NVIDIA driver"):
        trine.load(path, device="cuda")
    assert choose_device.open_on_gpu is not None


def test_a_second_build_compiles_nothing_and_makes_the_same_plan(path, net, folder, monkeypatch):
    def compiled(*args):
        raise AssertionError("compiled again")

    monkeypatch.setattr(compiler, "_run", compiled)
    monkeypatch.setattr(compiler, "compile_kernel", compiled)
    again = build(net, folder, verify=False)
    with trine.load(path) as engine:
        assert bytes(again.plans["cuda_sm_90"]) == bytes(engine.plans["cuda_sm_90"])


def test_one_size_is_one_bucket(net, folder):
    engine = build(net, folder, batch=2, verify=False)
    plan = plan_from_bytes(engine.plans["cuda_sm_90"])
    assert ([bucket.rows for bucket in plan.buckets], plan.rows_vary) == ([2], False)
    assert plan.inputs == (((2, 3, 32, 32), "float32"),)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target": "sm_70"}, "target: 'sm_70' is unknown; allowed: sm_80, sm_86"),
        ({"buckets": (1, 64)}, "buckets: 64 rows are more than the profile's 2; raise batch="),
        ({"buckets": (0, 1)}, "buckets: expected numbers of rows such as"),
        ({"buckets": (1,), "batch": 2}, r"buckets: \(1,\), but the engine takes \[2\] rows only; leave it out"),
    ],
)
def test_options_that_do_not_fit(net, folder, options, text):
    with pytest.raises(ConfigError, match=text):
        build(net, folder, **options)


class Odd(torch.nn.Module):
    def forward(self, x):
        return torch.cumsum(torch.relu(x), 1) + torch.sort(x, 1).values


def test_operators_without_kernels_are_listed_where_the_cpu_is_not_to_help():
    with pytest.raises(UnsupportedError, match="cannot run in the CUDA backend") as caught:
        trine.build(Odd(), torch.randn(2, 6), target="sm_90", batch=(1, 2, 2), cpu_fallback=False)
    listed = "; ".join(caught.value.problems)
    assert "CumSum" in listed
    assert "TopK" in listed


class Recurrent(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer(8, 12, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.layer(x)[0])


@pytest.mark.parametrize("layer", [torch.nn.LSTM, torch.nn.GRU])
def test_recurrent_layers_run_on_the_gpu(layer, folder):
    torch.manual_seed(0)
    options = {"target": "sm_90", "precision": "fp16", "batch": (1, 2, 3), "kernel_cache": folder / "kernels"}
    engine = trine.build(Recurrent(layer).eval(), torch.randn(2, 6, 8), cpu_fallback=False, **options)
    assert engine.manifest.evidence["passed"]
    (plan,) = inspect_cuda_plans(engine.plans)
    kinds = [group["kind"] for group in plan["buckets"][-1]["groups"]]
    assert kinds == ["Pointwise", "Gemm", "Recurrence", "Gemm", "Pointwise"], "nothing is copied but the edges"


class Mixed(torch.nn.Module):
    def forward(self, x, table):
        return torch.relu(x) @ table


def test_with_a_batch_that_varies_every_input_has_it():
    example = (torch.randn(2, 6), torch.randn(6, 24))
    with pytest.raises(UnsupportedError, match=r"'table' \[6, 24\] has not. Build for one size: batch=1"):
        trine.build(Mixed(), example, target="sm_90", batch=(1, 2, 4))
    engine = trine.build(Mixed(), example, target="sm_90", batch=2)
    assert "cuda_sm_90" in engine.plans


class Centred(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x - x.mean(0, keepdim=True))


def test_a_model_that_mixes_rows_is_built_for_one_size_only():
    with pytest.raises(UnsupportedError, match="mixes the rows of a batch"):
        trine.build(Centred(), torch.randn(4, 6), target="sm_90", batch=(2, 4, 8))
    engine = trine.build(Centred(), torch.randn(4, 6), target="sm_90", batch=4)
    assert engine.manifest.evidence["passed"]


def test_without_triton_it_names_the_extra(net, folder, monkeypatch):
    monkeypatch.setattr(cuda_builder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trine\[cuda-build\]'"):
        build(net, folder)
