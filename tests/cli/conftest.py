"""A tiny ONNX classifier's file, an engine of it built by the command line itself, and a way to call a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from cli_models import classifier

from trine.cli.main import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def trine(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs ``trine ARGUMENTS`` in this process. It must print no traceback, whatever happens."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(classifier(), path)
    return path


@pytest.fixture(scope="session")
def engine_file(model_file: Path) -> Path:
    """Batches 1 to 4, tuned for 2."""
    path = model_file.with_suffix(".trine")
    assert main(["build", str(model_file), "-o", str(path), "--batch", "1:2:4", "--threads", "1", "--quiet"]) == 0
    return path


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.dense = torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.dense(x)


ready = Net()


def make():
    return Net()


def make_with_inputs():
    return Net(), (torch.randn(2, 6),)


def fail():
    raise RuntimeError("weights.pt is not there")
"""


@pytest.fixture
def net_file(in_folder: Path) -> Path:
    """A file with functions that make a PyTorch module."""
    path = in_folder / "cli_test_net.py"
    path.write_text(NET)
    return path
