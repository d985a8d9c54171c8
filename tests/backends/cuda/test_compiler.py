"""Compiling in several processes."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest
from backends.cuda.compiling import compile_group
from backends.cuda.kernels.test_conv import LARGE
from backends.cuda.kernels.test_gemm import before, product

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from trine.backends.cuda.compiler import _in_processes, _job, compile_all
from trine.backends.cuda.kernel_cache import KernelCache
from trine.backends.cuda.kernels.conv_launch import ImplicitGemmConv
from trine.backends.cuda.kernels.gemm_launch import GemmTiles
from trine.backends.cuda.target import TARGETS, target_named

CONV, GEMM, SM90 = ImplicitGemmConv(), GemmTiles(), TARGETS["sm_90"]
GROUP = next(iter(LARGE.values()))


SCRIPT = """
from pathlib import Path
from backends.cuda.test_compiler import CONV, GROUP, SM90
from trine.backends.cuda.compiler import compile_all
from trine.backends.cuda.kernel_cache import KernelCache

print("the script runs")
sources = [CONV.launches(GROUP, each, SM90)[0].kernel for each in CONV.configurations(GROUP, SM90)[:2]]
found = compile_all(sources, SM90, KernelCache(Path("kernels")), processes=2)
print("compiled", sum(not isinstance(each, str) for each in found.values()))
"""


def test_a_script_that_does_not_guard_its_main_part_runs_once(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    path = [entry for entry in sys.path if entry]
    result = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout.splitlines() == ["the script runs", "compiled 2"], result.stderr
    assert len(list((tmp_path / "kernels").iterdir())) == 2


def test_a_kernel_that_ends_the_compiler_leaves_the_others(tmp_path, monkeypatch):
    (tmp_path / "ends_its_process.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    source = CONV.launches(GROUP, CONV.configurations(GROUP, SM90)[0], SM90)[0].kernel
    good = _job(source, SM90)
    found = dict(_in_processes({"bad": dataclasses.replace(good, module="ends_its_process"), "good": good}, 2))
    assert found["bad"] == "the compiler crashed"
    assert found["good"].name == source.function.fn.__name__


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_what_the_precision_allows(tf32):
    target = target_named("sm_80", tf32=tf32)
    whole = dataclasses.replace
    x, w, y = (whole(view, buffer=whole(view.buffer, dtype="fp32")) for view in (GROUP.x, GROUP.w, GROUP.y))
    group = whole(GROUP, x=x, w=w, y=y)
    configuration = CONV.configurations(group, target)[0]
    assert configuration["precision"] == ("tf32" if tf32 else "ieee")
    launch = CONV.launches(group, configuration, target)[0]
    assert launch.kernel.constants["PRECISION"] == configuration["precision"]
    assert all(kernel.cubin for kernel in compile_group(CONV, group, target, configuration))


def test_more_shared_memory_than_a_block_may_have_is_a_refusal():
    """Triton says so only when the GPU loads the kernel."""
    group = before(product(32 * 196, 112, 672, residual=True), 32, shift=False)
    tile = {"block_m": 256, "block_n": 32, "block_k": 64, "num_warps": 8, "num_stages": 4, "group_m": 8, "split_k": 1}
    (launch,) = GEMM.launches(group, tile, SM90)
    (said,) = compile_all([launch.kernel], SM90, KernelCache(), processes=1).values()
    assert re.fullmatch(
        r"BuildError: gemm: a block takes \d+ bytes of shared memory, and one on sm_90 has 232448; .*", said
    )
    assert tile not in GEMM.configurations(group, SM90)
