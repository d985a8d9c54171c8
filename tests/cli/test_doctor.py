from __future__ import annotations

import json
import subprocess
import sys

import pytest

from trine import versions
from trine.cli import doctor


def test_what_is_printed(trine) -> None:
    result = trine("doctor")
    assert result.code == 0, result.err
    for part in ("CPU", "cores usable", "fp32", "bf16", "NVIDIA", "openvino", "torch"):
        assert part in result.out


def test_json(trine) -> None:
    document = json.loads(trine("doctor", "--json").out)
    assert document["precisions"]["fp32"]["available"] == "yes"
    assert {"numpy", "openvino", "onnxruntime", "torch", "pillow"} <= {entry["name"] for entry in document["packages"]}
    assert document["cpu"]["usable_cores"] >= 1
    assert "tf32" not in document["precisions"], "of GPUs, not of CPUs"
    assert {"cuda-bindings", "triton"} <= {entry["name"] for entry in document["packages"]}


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (set(), "sees no GPU"),
        ({"sm_90"}, "trine build --device cuda makes engines for sm_80"),
        ({"sm_90", "sm_70"}, "; not for sm_70"),
    ],
)
def test_what_is_said_of_gpus(targets: set[str], says: str) -> None:
    assert says in doctor._cuda_note(targets)


def test_what_is_missing_has_its_install_command(trine, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = versions.package_version

    def without_torch(package: str) -> str | None:
        return None if package == "torch" else installed(package)

    monkeypatch.setattr(versions, "package_version", without_torch)
    result = trine("doctor")
    assert result.code == 0
    assert "pip install 'trine[torch]'" in result.out


def test_a_missing_requirement_fails(trine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "package_version", lambda package: None)
    assert trine("doctor", "--json").code == 6


def test_torch_is_not_imported() -> None:
    program = (
        "import sys; from trine.cli.main import main; main(['doctor', '--json']);"
        "sys.exit(bool({'torch', 'onnx', 'onnxruntime'} & sys.modules.keys()))"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment).returncode == 0
