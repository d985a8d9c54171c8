"""Kernels' names, the cache on disk, and compiling in several processes."""

import dataclasses
import os
import subprocess
import sys

import pytest
from backends.cuda.compiling import compile_group
from backends.cuda.kernels.test_conv import LARGE

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from trine.backends.cuda import compiler
from trine.backends.cuda.compiler import KernelCache, kernel_key
from trine.backends.cuda.kernels.conv_launch import ImplicitGemmConv
from trine.backends.cuda.target import TARGETS, target_named
from trine.runtime.cuda.plan import Kernel

CONV, SM90 = ImplicitGemmConv(), TARGETS["sm_90"]
GROUP = next(iter(LARGE.values()))
KERNEL = Kernel("k", "k", b"\x7fELF code", 1024, 128, ("pointer", "i32"), 2)


def first_source(target=SM90):
    return CONV.launches(GROUP, CONV.configurations(GROUP, target)[0], target)[0].kernel


def test_a_kernel_is_named_by_its_own_text_and_that_of_what_it_calls():
    definition = compiler._definition(first_source().function)
    assert "def conv(" in definition
    assert "def activate(" in definition
    assert "def conv_sum(" not in definition  # beside it in the file, not called by it


def test_whatever_changes_the_machine_code_changes_the_name():
    source = first_source()
    names = {
        kernel_key(source, SM90),
        kernel_key(source, TARGETS["sm_89"]),
        kernel_key(dataclasses.replace(source, num_warps=source.num_warps * 2), SM90),
        kernel_key(dataclasses.replace(source, constants={**source.constants, "H": 5}), SM90),
        kernel_key(dataclasses.replace(source, divisible=()), SM90),
    }
    assert len(names) == 5


def test_kernels_are_kept_and_read_again(tmp_path):
    KernelCache(tmp_path / "made").put("key", KERNEL)
    assert KernelCache(tmp_path / "made").get("key") == KERNEL
    assert KernelCache(tmp_path / "other", [tmp_path / "made"]).get("key") == KERNEL
    assert KernelCache(tmp_path / "other").get("key") is None
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["key.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"cubin": 1}', b'{"cubin": "AAAA"}', b"\xff\xfe"])
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path, damage, caplog):
    path = tmp_path / "key.json"
    path.write_bytes(damage)
    cache = KernelCache(tmp_path)
    assert cache.get("key") is None
    assert "is damaged" in caplog.text
    cache.put("key", KERNEL)
    assert KernelCache(tmp_path).get("key") == KERNEL


SCRIPT = """
from pathlib import Path
from backends.cuda.test_compiler import CONV, GROUP, SM90
from trine.backends.cuda.compiler import KernelCache, compile_all

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
