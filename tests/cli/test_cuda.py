"""The command line and engines for NVIDIA GPUs, where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runtime.cuda.sample_plans import plan

from trine.cli.failures import ExitCode
from trine.engine.format import read_engine, write_engine
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


def test_the_cpu_runs_it(trine, cuda_file: Path) -> None:
    result = trine("run", cuda_file, "--device=cpu", "--json")
    assert result.code == 0, result.err
