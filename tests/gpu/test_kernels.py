"""Kernels on the GPU against their groups' meaning in NumPy; and under compute-sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from backends.cuda.device_check import TOLERANCE, check_groups
from backends.cuda.test_networks import ROWS, SMALL, prepared

from trine.backends.cuda.kernel_cache import KernelCache
from trine.backends.cuda.lowering import lower
from trine.backends.cuda.target import TARGETS
from trine.runtime.cuda.driver import Driver

pytestmark = pytest.mark.gpu

TESTS = Path(__file__).resolve().parents[1]
KERNELS = os.environ.get("TRINE_TEST_KERNELS")
# NVIDIA's bindings ask the driver for functions that it may not have: that is no fault.
_OPTIONS = ("--error-exitcode", "9", "--report-api-errors", "no")
MOST = 4  # configurations of each tactic and group, the best guesses first


def problems(name: str, precision: str, most: int = MOST) -> tuple[list[str], int]:
    """What is wrong, and how many candidates were right."""
    graph, inputs, outputs, *_ = prepared(name)
    driver = Driver()
    groups = lower(graph, ROWS, inputs, outputs, precision).groups
    cache = KernelCache(Path(KERNELS) if KERNELS else None)
    wrong, right = [], 0
    for group, label, found in check_groups(driver, groups, TARGETS[f"sm_{driver.capability}"], cache, most):
        if isinstance(found, str):
            continue  # this Triton does not compile it: no candidate then
        if found <= TOLERANCE.get(group.y.dtype, 0.0):
            right += 1
        else:
            wrong.append(f"{found:.2e} {type(group).__name__} {group.name} {label}")
    return wrong, right


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("name", SMALL)
def test_kernels_compute_what_their_groups_mean(name: str, precision: str) -> None:
    wrong, right = problems(name, precision)
    assert not wrong
    assert right > 0


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
@pytest.mark.parametrize("name", ["efficientnet", "vit"])
def test_compute_sanitizer_finds_nothing(name: str, tool: str) -> None:
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if sanitizer is None:
        pytest.skip("needs compute-sanitizer, of NVIDIA's CUDA toolkit")
    program = f"from gpu.test_kernels import problems; wrong, right = problems({name!r}, 'fp16', most=1); "
    program += "print(wrong); assert right and not wrong"
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src"), *filter(None, sys.path)])
    done = subprocess.run(
        [sanitizer, "--tool", tool, *_OPTIONS, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
