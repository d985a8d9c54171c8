from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_what_is_printed(trine, engine_file: Path) -> None:
    result = trine("inspect", engine_file)
    assert result.code == 0, result.err
    for part in (
        "tiny  fp32",
        "images",
        "batchx3x8x8",
        "chosen",
        "refused",
        "slower",
        "PASSED",
        "1 Conv",
        "weights",
        "parameters",
    ):
        assert part in result.out
    assert "conv0" not in result.out


def test_layers(trine, engine_file: Path) -> None:
    result = trine("inspect", engine_file, "--layers")
    assert "multiply-adds" in result.out
    assert "batchx4x8x8" in result.out


def test_json(trine, engine_file: Path) -> None:
    document = json.loads(trine("inspect", engine_file, "--json").out)
    assert document["operators"]["Conv"] == 1
    assert document["sizes"]["parameters"] >= 4 * 3 * 9 + 4 * 5
    assert document["evidence"]["passed"] is True


def test_html(trine, engine_file: Path, in_folder: Path) -> None:
    result = trine("inspect", engine_file, "--html", "page.html")
    assert (result.code, result.out) == (0, "")
    assert "wrote page.html" in result.err
    assert "<!doctype html>" in Path("page.html").read_text(encoding="utf-8")


def test_what_is_no_engine_is_not_called_damaged(trine, model_file: Path, engine_file: Path, in_folder: Path) -> None:
    result = trine("inspect", model_file)
    assert result.code == 4
    assert "  the file is not a trine engine: it looks like an ONNX model; build an engine" in result.err
    assert "checksums" not in result.err
    Path("a.trine").write_bytes(engine_file.read_bytes()[:600] + b"X" + engine_file.read_bytes()[601:])
    result = trine("inspect", "a.trine")
    assert result.code == 4
    assert "copy it again and compare checksums" in result.err


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
def test_half_a_page_is_never_left(engine_file: Path, in_folder: Path) -> None:
    """The file may take 4 KiB only, as on a full disk."""
    Path("page.html").write_text("before")
    command = f"ulimit -f 4; trap '' XFSZ; exec {sys.executable} -m trine inspect '{engine_file}' --html page.html"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 4, result.stderr
    assert "cannot write 'page.html': File too large" in result.stderr
    assert [(path.name, path.read_text()) for path in in_folder.iterdir()] == [("page.html", "before")]


def test_an_engine_without_evidence_says_so(trine, model_file: Path, in_folder: Path) -> None:
    assert trine("build", model_file, "--no-verify", "-q", "-o", "a.trine", "--tactics=onnxruntime").code == 0
    result = trine("inspect", "a.trine")
    assert "built with verification off" in result.out
    assert "not among" in result.out


def test_no_backend_is_loaded(engine_file: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys; from trine.cli.main import main\n"
        f"code = main(['inspect', {str(engine_file)!r}, '--json'])\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'onnx_ir'} & sys.modules.keys()\n"
        "sys.exit(f'loaded: {heavy}' if heavy else code)\n"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
