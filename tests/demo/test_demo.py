"""The demo keeps its promises: right answers without PyTorch, and a page that stands alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_demo_answers_and_writes_its_page(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "demo" / "main.py", tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    printed = result.stdout
    assert re.search(r"espresso +9\d\.\d% +espresso +9\d\.\d%", printed), printed
    assert re.search(r"Egyptian cat +\d\d\.\d% +Egyptian cat", printed), printed
    difference = re.search(r"Largest difference in 6000 logits: (\S+),", printed)
    assert difference, printed
    assert float(difference[1]) < 1e-3
    assert len(re.findall(r"batch [18] +\d+\.\d ms +\d+\.\d ms +\d+\.\d\dx", printed)) == 2, printed

    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 6
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "the page must not refer to anything outside itself"
    assert "Conv" in page


def test_the_second_process_cannot_import_torch() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'demo')!r})\n"
        "import classify; sys.meta_path.insert(0, classify._ShutOut())\n"
        "for name in classify.BUILD_ONLY:\n"
        "    try: __import__(name)\n"
        "    except ModuleNotFoundError as err: print(err.name)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["torch", "torchvision", "onnx", "onnx_ir", "onnxscript", "triton"]
