from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from cli_models import classifier

import trine as package
from trine.cli.build import default_output
from trine.cli.failures import ExitCode


def test_an_onnx_file_with_a_batch(trine, model_file: Path, in_folder: Path) -> None:
    result = trine("build", model_file, "--batch", "1:2:4", "--threads", "1")
    assert result.code == 0, result.err
    assert result.out.startswith("tiny.trine  ")
    assert "largest relative error" in result.out
    for stage in ("import", "passes", "compile", "time", "verify"):
        assert stage in result.err
    with package.load("tiny.trine") as engine:
        assert engine.profile.ranges["images"].max == (4, 3, 8, 8)
    assert [path.name for path in in_folder.iterdir()] == ["tiny.trine"]


def test_shapes_as_trtexec_writes_them(trine, model_file: Path, in_folder: Path) -> None:
    shapes = ("--minShapes=images:1x3x8x8", "--optShapes=images:2x3x8x8", "--maxShapes=images:3x3x8x8")
    result = trine("build", f"--onnx={model_file}", *shapes, "--saveEngine=out.trine", "-q", "--tactics", "onnxruntime")
    assert (result.code, result.err) == (0, "")
    with package.load("out.trine") as engine:
        limits = engine.profile.ranges["images"]
        assert (limits.min[0], limits.opt[0], limits.max[0]) == (1, 2, 3)
        assert engine.tactic == "onnxruntime"


def test_the_model_itself_is_never_replaced(trine, model_file: Path, net_file: Path) -> None:
    copy = net_file.with_name("copy.onnx")
    copy.write_bytes(model_file.read_bytes())
    for model, output in ((copy, copy), (f"{net_file}:make", net_file), (copy, f"{copy.parent}/./copy.onnx")):
        before = Path(output).read_bytes()
        result = trine("build", model, "-o", output, "--shapes=1x6")
        assert (result.code, result.out) == (2, "")
        assert "is the model itself; give the engine a file of its own" in result.err
        assert Path(output).read_bytes() == before


def test_a_python_file_without_what_makes_the_model(trine, net_file: Path) -> None:
    result = trine("build", net_file.name)
    assert result.code == 2
    assert f"{net_file.name} is Python; name what makes the model in it: {net_file.name}:make" in result.err


def test_a_shape_without_a_name(trine, model_file: Path, in_folder: Path) -> None:
    result = trine("build", model_file, "--shapes=2x3x8x8", "--tactics=onnxruntime", "--json", "-o", "a.trine")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["inputs"][0]["profile"]["max"] == [2, 3, 8, 8]
    assert document["tactic"] == "onnxruntime"
    assert {"openvino", "onnxruntime"} == {tactic["name"] for tactic in document["tactics"]}
    assert document["bytes"] == Path("a.trine").stat().st_size
    assert result.err == ""


def test_a_torch_module(trine, net_file: Path) -> None:
    result = trine(
        "build", "cli_test_net.py:make", "--shapes=1x6", "--batch=1:4", "--tactics=onnxruntime", "-q", "--no-verify"
    )
    assert result.code == 0, result.err
    assert "not verified" in result.out
    with package.load("make.trine") as engine:
        assert engine.profile.ranges["x"].max == (4, 6)
        assert engine.manifest.evidence is None


def test_a_timing_cache_is_written_and_read(trine, model_file: Path, in_folder: Path) -> None:
    for _ in range(2):
        assert trine("build", model_file, "--timingCacheFile=t.cache", "-q", "-o", "a.trine").code == 0
        assert Path("t.cache").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name one model"),
        (("x.onnx", "--onnx=y.onnx"), "name one model"),
        (("MODEL", "--fp16", "--bf16"), "more than one precision: fp16, bf16"),
        (("MODEL", "--fp16", "--precision=fp32"), "more than one precision"),
        (("MODEL", "--batch=2", "--shapes=2x3x8x8"), "give one of the two"),
        (("MODEL", "--batch=2", "--maxShapes=2x3x8x8"), "give one of the two"),
        (("MODEL", "--minShapes=images:4x3x8x8", "--maxShapes=images:1x3x8x8"), "min <= opt <= max"),
        (("MODEL", "-o", "no/folder/x.trine"), "there is no folder no/folder"),
        (("MODEL", "-o", "."), "is a folder"),
        (("MODEL", "--device=tpu"), "allowed: cpu"),
        (("MODEL", "--target=sm_12"), "target: 'sm_12' is unknown; allowed: sm_80"),
        (("MODEL", "--device=cuda", "--buckets=1,many"), "expected numbers of rows such as 1,8,64"),
        (("MODEL", "--device=cuda", "--buckets=0,8"), "buckets: expected numbers of rows"),
        (("MODEL", "--tf32"), "is a format of NVIDIA GPUs"),
        (("MODEL", "--target=sm_90", "--batch=1:4", "--buckets=1,8"), "8 rows are more than the profile's 4"),
        (("MODEL", "--tactics=openvin"), "allowed: openvino, onnxruntime"),
        (("MODEL", "--shapes=pixels:2x3x8x8"), "pixels"),
    ],
)
def test_what_cannot_be_built_says_so(
    trine, model_file: Path, in_folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    result = trine("build", *(str(model_file) if part == "MODEL" else part for part in arguments))
    assert (result.code, result.out) == (ExitCode.USAGE, ""), result.err
    assert says in result.err
    assert list(in_folder.iterdir()) == []


def test_a_file_that_is_no_model(trine, in_folder: Path) -> None:
    Path("bad.onnx").write_bytes(b"\x08\x07 this is no model")
    result = trine("build", "bad.onnx", "-q")
    assert result.code == ExitCode.IMPORT
    assert "bad.onnx" in result.err
    assert [path.name for path in in_folder.iterdir()] == ["bad.onnx"]


def test_outside_the_budget_nothing_is_written(trine, in_folder: Path) -> None:
    onnx.save(classifier(convolutions=6, channels=16), "deep.onnx")
    result = trine("build", "deep.onnx", "--accuracy-budget=1e-12", "-q", "--batch=1")
    assert result.code == ExitCode.CHECK_FAILED
    assert "outside the accuracy budget" in result.err
    assert "rel. error" in result.err
    assert [path.name for path in in_folder.iterdir()] == ["deep.onnx"]


def test_default_output_is_named_after_the_model() -> None:
    assert default_output("folder/model.onnx") == Path("model.trine")
    assert default_output("torchvision.models:resnet18") == Path("resnet18.trine")
    assert default_output("nets/net.py:Zoo.make") == Path("make.trine")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("after", ["passes", "compile"])
def test_ctrl_c_leaves_nothing_behind(in_folder: Path, after: str) -> None:
    onnx.save(classifier(convolutions=8, channels=32, side=96), "slow.onnx")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "trine", "build", "slow.onnx", "--batch=8", "--threads=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell that starts jobs in the background ignores Ctrl-C for them, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if after in line:
            break
    else:
        pytest.fail(f"it ended before {after}: {''.join(seen)}")
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert time.monotonic() - asked < 30
    assert out == ""
    assert "trine build: interrupted" in err
    assert "Traceback" not in err
    assert [path.name for path in in_folder.iterdir()] == ["slow.onnx"]
