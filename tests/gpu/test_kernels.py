"""Kernels on the GPU against their groups' meaning in NumPy; and under compute-sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from backends.cuda.device_check import TF32, TOLERANCE, check_groups
from backends.cuda.test_networks import ROWS, SMALL, prepared

from trine.backends.cuda.kernel_cache import KernelCache
from trine.backends.cuda.lowering import lower
from trine.backends.cuda.target import target_named
from trine.runtime.cuda.driver import Driver

pytestmark = pytest.mark.gpu

TESTS = Path(__file__).resolve().parents[1]
KERNELS = os.environ.get("TRINE_TEST_KERNELS")
# NVIDIA's bindings ask the driver for functions that it may not have: that is no fault.
_OPTIONS = ("--error-exitcode", "9", "--report-api-errors", "no")
MOST = 4  # configurations of each tactic and group, the best guesses first
NEWER = "MissingDependencyError"  # kernels in Gluon, where Triton is older than 3.8
PORTABLE, HOPPER = "triton ", "gluon "  # in the names of tactics


@dataclass(frozen=True)
class Found:
    """``right``: how many candidates were; the others by name, with why."""

    right: int
    wrong: list[str]
    not_compiled: list[str]


def found_in(name: str, precision: str, tactics: str, most: int = MOST, poisoned: bool = True) -> Found:
    """What the candidates for a network's groups compute, of the tactics whose name contains ``tactics``."""
    graph, inputs, outputs, *_ = prepared(name)
    driver = Driver()
    target = target_named(f"sm_{driver.capability}", tf32=precision == "tf32")
    groups = lower(graph, ROWS, inputs, outputs, precision).groups
    cache = KernelCache(Path(KERNELS) if KERNELS else None)
    right, wrong, not_compiled = 0, [], []
    for group, label, error in check_groups(driver, groups, target, cache, most, tactics, poisoned):
        text = f"{type(group).__name__} {group.name} {label}"
        if label == "reference":
            wrong.append(f"{text}: {error}")
        elif isinstance(error, str):
            not_compiled.append(f"{text}: {error}")
        elif error <= (TF32 if precision == "tf32" else TOLERANCE.get(group.y.dtype, 0.0)):
            right += 1
        else:
            wrong.append(f"{error:.2e} {text}")
    return Found(right, wrong, not_compiled)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32", "fp32"])
@pytest.mark.parametrize("name", SMALL)
def test_kernels_compute_what_their_groups_mean(name: str, precision: str) -> None:
    found = found_in(name, precision, PORTABLE)
    assert not found.wrong
    assert not found.not_compiled
    assert found.right > 0


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_kernels_for_hopper_compute_what_their_groups_mean(name: str, precision: str) -> None:
    found = found_in(name, precision, HOPPER)
    assert not found.wrong
    newer = [each for each in found.not_compiled if NEWER in each]
    assert newer == found.not_compiled
    if newer:
        pytest.skip(f"{found.right} were right; {len(newer)} were not run: {newer[0]}")
    if not found.right:
        pytest.skip("no group of this network is one for kernels for Hopper, or this is none")


SANITIZED = """
import sys
from gpu.test_kernels import found_in
found = found_in({name!r}, "fp16", {tactics!r}, most=1, poisoned={poisoned})
print("right:", found.right)
print("newer:", *[each for each in found.not_compiled if {newer!r} in each], sep="\\n  ")
print("wrong:", *found.wrong, *[each for each in found.not_compiled if {newer!r} not in each], sep="\\n  ")
sys.exit(bool(found.wrong) or not found.right)
"""


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        *((name, tool) for name in ("plain", "efficientnet", "vit") for tool in ("memcheck", "racecheck", "synccheck")),
        ("plain", "initcheck"),
    ],
)
def test_compute_sanitizer_finds_nothing(name: str, tool: str) -> None:
    """initcheck: what is written and scratch are as they were allocated, so that it knows of what nobody wrote.

    Two of the tools are not for the kernels for Hopper. initcheck does not see what the tensor memory accelerator
    stores: to it, all of their outputs were never written. racecheck reports the word in shared memory by which Triton
    tells each warp of a specialised kernel what to do, though in the machine code a barrier of all warps is between
    its every write and read. Their own barriers are played in tests/backends/cuda/gluon_play.py.
    """
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if sanitizer is None:
        pytest.skip("needs compute-sanitizer, of NVIDIA's CUDA toolkit")
    tactics = PORTABLE if tool in ("initcheck", "racecheck") else ""
    program = SANITIZED.format(name=name, newer=NEWER, tactics=tactics, poisoned=tool != "initcheck")
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src"), *filter(None, sys.path)])
    done = subprocess.run(
        [sanitizer, "--tool", tool, *_OPTIONS, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    newer, _, wrong = done.stdout.partition("newer:")[2].partition("wrong:")
    assert not [line for line in wrong.splitlines() if line.startswith("  ")], done.stdout[-3000:]
    if newer.strip():
        pytest.skip(f"nothing found, but these were not run: {newer.strip()[:500]}")
