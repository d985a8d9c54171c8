"""Each example runs as a reader would run it, and says what its page promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_example(script: str, folder: Path) -> str:
    """What the example prints, run with ``folder`` as its current folder."""
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_example_is_tested() -> None:
    scripts = {path.relative_to(ROOT / "examples").as_posix() for path in (ROOT / "examples").glob("*/*.py")}
    assert scripts == {
        "01_classify_a_photo/classify_a_photo.py",
        "02_mnist_train_to_engine/train_to_engine.py",
    }


@pytest.mark.slow
def test_classify_a_photo_sees_the_espresso(tmp_path: Path) -> None:
    printed = run_example("01_classify_a_photo/classify_a_photo.py", tmp_path)
    likeliest = printed.strip().splitlines()[-5]
    assert re.fullmatch(r" *\d\d\.\d%  espresso", likeliest), printed
    assert (tmp_path / "efficientnet_lite0.trine").stat().st_size > 15 * 2**20


@pytest.mark.slow
def test_train_to_engine_keeps_the_accuracy(tmp_path: Path) -> None:
    printed = run_example("02_mnist_train_to_engine/train_to_engine.py", tmp_path)
    accuracy = dict(re.findall(r"^accuracy, (\w+) +(0\.\d{4}|1\.0000)$", printed, re.MULTILINE))
    assert accuracy["trine"] == accuracy["PyTorch"], printed
    assert float(accuracy["trine"]) > 0.97, printed
    difference = re.search(r"^largest difference +(\S+) in the logits$", printed, re.MULTILINE)
    assert difference, printed
    assert float(difference[1]) < 1e-3, printed
