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
        "03_torch2trt/torch2trt_program.py",
        "04_mnist_layer_by_layer/mnist_layer_by_layer.py",
        "05_custom_converter/custom_converter.py",
        "06_onnx_route/onnx_route.py",
        "07_serialize_and_stream/serialize_and_stream.py",
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


@pytest.mark.slow
def test_a_torch2trt_program_answers_as_pytorch_does(tmp_path: Path) -> None:
    printed = run_example("03_torch2trt/torch2trt_program.py", tmp_path)
    differences = re.findall(r"^largest difference +(\S+)$", printed, re.MULTILINE)
    assert len(differences) == 2, printed
    assert all(0 < float(difference) < 1e-3 for difference in differences), printed
    assert re.search(r"^class, PyTorch and trine +967 967$", printed, re.MULTILINE), printed  # 967 is espresso
    assert re.search(r"^loaded, same answer +True$", printed, re.MULTILINE), printed
    assert re.search(r"^ReLU6 layers converted +33$", printed, re.MULTILINE), printed  # 1 + 31 + 1


@pytest.mark.slow
def test_a_network_layer_by_layer_keeps_the_accuracy(tmp_path: Path) -> None:
    printed = run_example("04_mnist_layer_by_layer/mnist_layer_by_layer.py", tmp_path)
    accuracy = dict(re.findall(r"^accuracy, (\w+) +(0\.\d{4}|1\.0000)$", printed, re.MULTILINE))
    assert accuracy["trine"] == accuracy["PyTorch"], printed
    assert float(accuracy["trine"]) > 0.95, printed
    difference = re.search(r"^largest difference +(\S+) in the logits$", printed, re.MULTILINE)
    assert difference, printed
    assert float(difference[1]) < 1e-3, printed
    assert (tmp_path / "sample.engine").stat().st_size > 2**20


def check_accuracy(printed: str) -> None:
    """The same accuracy as PyTorch's, a good one, and logits within rounding."""
    accuracy = dict(re.findall(r"^accuracy, (\w+) +(0\.\d{4}|1\.0000)$", printed, re.MULTILINE))
    assert accuracy["trine"] == accuracy["PyTorch"], printed
    assert float(accuracy["trine"]) > 0.9, printed
    difference = re.search(r"^largest difference +(\S+)", printed, re.MULTILINE)
    assert difference, printed
    assert float(difference[1]) < 1e-3, printed


@pytest.mark.slow
def test_a_converter_of_ones_own_is_called(tmp_path: Path) -> None:
    printed = run_example("05_custom_converter/custom_converter.py", tmp_path)
    assert re.search(r"^converted by ours +ReLU, Swish2$", printed, re.MULTILINE), printed
    check_accuracy(printed)


@pytest.mark.slow
def test_the_onnx_route_keeps_the_accuracy(tmp_path: Path) -> None:
    check_accuracy(run_example("06_onnx_route/onnx_route.py", tmp_path))
    assert (tmp_path / "mnist.onnx").exists()


@pytest.mark.slow
def test_a_plan_is_run_by_a_process_without_pytorch(tmp_path: Path) -> None:
    printed = run_example("07_serialize_and_stream/serialize_and_stream.py", tmp_path)
    assert re.search(r"^imported to run +neither PyTorch nor ONNX$", printed, re.MULTILINE), printed
    check_accuracy(printed)
