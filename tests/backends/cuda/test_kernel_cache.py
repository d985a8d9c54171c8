"""Kernels' names, and the cache on disk."""

import dataclasses

import pytest
from backends.cuda.kernels.test_conv import LARGE

pytest.importorskip("triton", reason="kernels are written in Triton, which is not installed")

from trine.backends.cuda import kernel_cache
from trine.backends.cuda.kernel_cache import KernelCache, kernel_key
from trine.backends.cuda.kernels.conv_launch import ImplicitGemmConv
from trine.backends.cuda.target import TARGETS
from trine.runtime.cuda.plan import Kernel

CONV, SM90 = ImplicitGemmConv(), TARGETS["sm_90"]
GROUP = next(iter(LARGE.values()))
KERNEL = Kernel("k", "k", b"\x7fELF code", 1024, 128, ("pointer", "i32"), 2)


def first_source(target=SM90):
    return CONV.launches(GROUP, CONV.configurations(GROUP, target)[0], target)[0].kernel


def test_a_kernel_is_named_by_its_own_text_and_that_of_what_it_calls():
    definition = kernel_cache._definition(first_source().function)
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
