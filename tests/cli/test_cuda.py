"""The command line and engines for NVIDIA GPUs, where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pass_checks import build as onnx_model
from runtime.cuda.sample_plans import plan, plan_with_cpu

from trine.backends.cuda import device_timer
from trine.cli.failures import ExitCode
from trine.engine.format import read_engine, write_engine
from trine.errors import NoDeviceError
from trine.runtime.cuda.plan_bytes import plan_to_bytes


@pytest.fixture
def cuda_file(engine_file: Path, in_folder: Path) -> Path:
    """The engine for CPUs, with a plan for GPUs that is read, not run."""
    contents = read_engine(engine_file)
    path = in_folder / "cuda.trine"
    plans = {**contents.plans, "cuda_sm_90": plan_to_bytes(plan(1, 4))}
    write_engine(path, contents.manifest, contents.graph, plans)
    return path


def test_inspect(trine, cuda_file: Path) -> None:
    result = trine("inspect", cuda_file)
    assert result.code == 0, result.err
    for part in ("CUDA  sm_90 fp32: 3 kernels", "timed on NVIDIA H200", "launches", "arena", "floor"):
        assert part in result.out
    assert "roofline" not in result.out


@pytest.mark.parametrize(
    ("latency", "says"),
    [
        (None, "built without a GPU: nothing was timed"),
        (2.0, "built without a GPU: times of the same work on an sm_90, from the timing cache"),
    ],
)
def test_where_times_come_from(trine, engine_file: Path, in_folder: Path, latency: float | None, says: str) -> None:
    made = plan(1)
    groups = tuple({**group, "latency_us": latency} for group in made.buckets[0].groups)
    made = replace(made, device_name="", buckets=(replace(made.buckets[0], groups=groups),))
    contents = read_engine(engine_file)
    write_engine(
        Path("c.trine"), contents.manifest, contents.graph, {**contents.plans, "cuda_sm_90": plan_to_bytes(made)}
    )
    result = trine("inspect", "c.trine")
    assert says in " ".join(result.out.split())
    assert trine("inspect", "c.trine", "--html=page.html", "-q").code == 0
    assert says in Path("page.html").read_text(encoding="utf-8")


def test_roofline(trine, cuda_file: Path) -> None:
    result = trine("inspect", cuda_file, "--roofline")
    assert result.code == 0, result.err
    for part in ("roofline  sm_90 fp32, 4 rows", "share of floor", "50%", "25%", "Pointwise", "twice"):
        assert part in result.out
    assert "roofline  sm_90 fp32, 1 rows" in trine("inspect", cuda_file, "--roofline", "--rows=1").out


def test_json(trine, cuda_file: Path) -> None:
    document = json.loads(trine("inspect", cuda_file, "--json").out)
    assert [bucket["rows"] for bucket in document["cuda"][0]["buckets"]] == [1, 4]
    assert document["cuda"][0]["buckets"][0]["groups"][0]["share"] == 0.5


def test_html(trine, cuda_file: Path) -> None:
    assert trine("inspect", cuda_file, "--html=page.html", "-q").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "On NVIDIA GPUs" in page
    assert 'class="launches"' in page


def test_roofline_beside_a_page_or_json(trine, cuda_file: Path, engine_file: Path) -> None:
    """The table is what was asked for: a page does not take its place. JSON has it in itself."""
    result = trine("inspect", cuda_file, "--roofline", "--rows=1", "--html=page.html")
    assert result.code == 0, result.err
    assert "roofline  sm_90 fp32, 1 rows" in result.out
    assert "tactic" in result.out
    assert "evidence" not in result.out
    assert "On NVIDIA GPUs" in Path("page.html").read_text(encoding="utf-8")
    assert json.loads(trine("inspect", cuda_file, "--roofline", "--json").out)["cuda"]
    for more in (("--html=other.html",), ("--json",)):
        result = trine("inspect", engine_file, "--roofline", *more)
        assert result.code == ExitCode.USAGE
        assert "no plan for NVIDIA GPUs" in result.err
    assert not Path("other.html").exists()


@pytest.fixture
def mixed_file(engine_file: Path, in_folder: Path) -> Path:
    """With a plan of which the CPU computes a part."""
    contents = read_engine(engine_file)
    path = in_folder / "mixed.trine"
    made = plan_with_cpu(1, 4)
    groups = [{**group, "latency_us": 2.0} for group in made.buckets[1].groups]
    shown = {
        "name": "CPU: <y>",
        "kind": "CPU",
        "tactic": "cpu",
        "configuration": {},
        "latency_us": 40.0,
        "floor_us": 0.0,
    }
    bucket = replace(made.buckets[1], groups=(*groups, shown))
    plans = {**contents.plans, "cuda_sm_90": plan_to_bytes(replace(made, buckets=(made.buckets[0], bucket)))}
    write_engine(path, contents.manifest, contents.graph, plans)
    return path


def test_what_runs_on_the_cpu_is_shown(trine, cuda_file: Path, mixed_file: Path) -> None:
    result = trine("inspect", mixed_file, "--roofline", "--rows=4")
    assert result.code == 0, result.err
    for part in ("on the CPU  1 step a call: operators without kernels", "Neg", "no kernels", "CPU: <y>", "40.00"):
        assert part in result.out
    document = json.loads(trine("inspect", mixed_file, "--json").out)
    assert document["cuda"][0]["cpu_parts"][0]["operators"] == {"Neg": 1}
    assert trine("inspect", mixed_file, "--html=page.html", "-q").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "1 operators have no kernels and run on the CPU, in 1 step a call" in page
    assert "CPU: &lt;y&gt;" in page
    assert "on the CPU" not in trine("inspect", cuda_file).out


def test_a_build_can_refuse_what_has_no_kernels(trine, in_folder: Path) -> None:
    proto = onnx_model("float[2,6] x", "float[2,6] y", "a = Relu(x)\ny = CumSum(a, one)", 20, one=np.array(1, np.int64))
    Path("sum.onnx").write_bytes(proto.SerializeToString())
    result = trine("build", "sum.onnx", "--target=sm_90", "--noCpuFallback")
    assert result.code == ExitCode.IMPORT
    assert "1 nodes cannot run in the CUDA backend" in result.err
    assert not Path("sum.trine").exists()


def test_usage(trine, engine_file: Path, cuda_file: Path) -> None:
    for arguments, says in (
        ((engine_file, "--roofline"), "the engine has no plan for NVIDIA GPUs"),
        ((cuda_file, "--rows=1"), "add --roofline"),
    ):
        result = trine("inspect", *arguments)
        assert result.code == ExitCode.USAGE
        assert says in result.err


@pytest.mark.parametrize("verb", ["run", "bench", "verify"])
def test_a_gpu_that_is_not_here(trine, engine_file: Path, model_file: Path, verb: str) -> None:
    source = (model_file,) if verb == "verify" else ()
    result = trine(verb, engine_file, *source, "--device=cuda")
    assert result.code == ExitCode.DEVICE
    assert "holds no kernels for GPUs" in result.err
    result = trine(verb, engine_file, *source, "--device=gpu")
    assert result.code == ExitCode.USAGE
    assert 'allowed: "cpu", "cuda"' in result.err


def test_a_build_on_a_gpu_that_is_not_here(trine, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def driver(ordinal: int = 0) -> None:
        raise NoDeviceError("no NVIDIA driver (libcuda) is installed here")

    monkeypatch.setattr(device_timer, "Driver", driver)
    result = trine("build", model_file, "--device=cuda", "-o", "new.trine")
    assert result.code == ExitCode.DEVICE
    assert "there is no GPU here for this" in result.err
    assert "no NVIDIA driver" in result.err
    assert not Path("new.trine").exists()


def test_the_cpu_runs_it(trine, cuda_file: Path) -> None:
    result = trine("run", cuda_file, "--device=cpu", "--json")
    assert result.code == 0, result.err
