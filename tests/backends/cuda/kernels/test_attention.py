"""Attention in Triton's interpreter against its meaning in NumPy, and compiled for every architecture."""

from __future__ import annotations

import math

import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import check_group

from trine.backends.cuda.groups import Attention, Buffer, View, contiguous_strides
from trine.backends.cuda.kernels.attention import TACTICS
from trine.backends.cuda.kernels.attention_at_once import TACTICS as AT_ONCE
from trine.backends.cuda.kernels.attention_at_once import parts_of
from trine.backends.cuda.target import TARGETS

TACTIC = TACTICS[0]
ONCE = AT_ONCE[0]
H200 = TARGETS["sm_90"]


def heads_last(name, batch, length, heads, width, dtype):
    """(B, H, L, D) over memory of the order (B, L, H, D), as a projection leaves it."""
    buffer = Buffer(name, "arena", dtype, batch * length * heads * width)
    b, one, h, d = contiguous_strides((batch, length, heads, width))
    return View(buffer, (batch, heads, length, width), (b, h, one, d))


def group_of(b, h, s, t, d, e, dtype, bias=(), causal=False):
    mask = None
    if bias:
        mask = View(Buffer("bias", "arena", dtype, math.prod(bias)), bias, contiguous_strides(bias))
    return Attention(
        name="attention",
        q=heads_last("q", b, s, h, d, dtype),
        k=heads_last("k", b, t, h, d, dtype),
        v=heads_last("v", b, t, h, e, dtype),
        y=heads_last("y", b, s, h, e, dtype),
        scale=d**-0.5,
        bias=mask,
        causal=causal,
    )


CASES = {
    "windows": group_of(4, 3, 49, 49, 32, 32, "fp16", bias=(2, 3, 49, 49)),
    "pictures": group_of(1, 2, 197, 197, 64, 64, "fp16"),
    "odd": group_of(1, 1, 20, 33, 80, 24, "fp32", causal=True),
    "one query": group_of(2, 2, 1, 50, 64, 64, "fp16"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("choice", [0, -1])
def test_equals_its_meaning(case, choice):
    group = CASES[case]
    tolerance = 2e-5 if group.y.dtype == "fp32" else 4e-3
    configuration = TACTIC.configurations(group, H200)[choice]
    check_group(TACTIC, group, H200, configuration, rtol=tolerance, atol=tolerance)


FEW_KEYS = {
    "pictures": CASES["pictures"],
    "two parts, biased": group_of(2, 2, 70, 96, 32, 32, "fp16", bias=(1, 2, 70, 96)),
    "three parts, not all full": group_of(1, 2, 33, 230, 64, 48, "fp16"),
    "one part, causal": group_of(1, 1, 128, 128, 24, 32, "fp16", causal=True),
    "fewer queries": group_of(3, 1, 5, 65, 64, 64, "fp16"),
}


@pytest.mark.parametrize("case", FEW_KEYS)
@pytest.mark.parametrize("choice", [0, -1])
def test_all_keys_at_once_equals_its_meaning(case, choice):
    group = FEW_KEYS[case]
    assert not ONCE.supports(group, H200).reasons
    configuration = ONCE.configurations(group, H200)[choice]
    check_group(ONCE, group, H200, configuration, rtol=4e-3, atol=4e-3)


def test_programs_that_take_several_blocks_of_queries():
    group = group_of(1, 2, 150, 80, 32, 32, "fp16")
    for blocks in (2, 3):  # the last program has one block fewer
        configuration = {"block_m": 64, "num_warps": 4, "blocks": blocks, "num_stages": 2}
        check_group(ONCE, group, H200, configuration, rtol=4e-3, atol=4e-3)


def test_keys_are_rounded_up_to_three_powers_of_two():
    assert parts_of(197) == (128, 64, 16)
    for keys in range(1, 257):
        parts = parts_of(keys)
        used = [part for part in parts if part]
        assert parts == (*used, 0, 0, 0)[:3]
        assert all(part >= 16 and part.bit_count() == 1 for part in used)
        assert sum(used[:-1]) < keys <= sum(used), "only the last may reach beyond the keys"
        assert sum(used) - keys < max(16, keys / 4)


def test_keys_that_are_not_few():
    for keys in (49, 257):
        group = group_of(1, 1, keys, keys, 64, 64, "fp16")
        assert f"{keys} keys; wanted 65 to 256" in ONCE.supports(group, H200).reasons
    assert "fp32 operands" in ONCE.supports(group_of(1, 1, 100, 100, 64, 64, "fp32"), H200).reasons[0]
    wide = group_of(1, 1, 256, 256, 256, 256, "fp16")
    assert "bytes of keys and values; shared memory has" in ONCE.supports(wide, H200).reasons[0]


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda target: target.name)
def test_compiles(target):
    for tactic, case in ((TACTIC, "windows"), (ONCE, "pictures")):
        kernel = compile_group(tactic, CASES[case], target)[0]
        assert kernel.shared_bytes <= target.shared_bytes


@pytest.mark.parametrize(("tactic", "keys"), [(TACTIC, 49), (ONCE, 80)])
def test_many_heads_fit_the_grid(tactic, keys):
    group = group_of(70000, 4, keys, keys, 32, 32, "fp16")
    launch = tactic.launches(group, tactic.configurations(group, H200)[0], H200)[0]
    assert launch.grid[0] >= 280000  # the second and third number may be at most 65535
    assert launch.grid[1:] == (1, 1)


def test_refuses_with_reasons():
    wide = group_of(1, 1, 8, 8, 512, 512, "fp16")
    assert any("512" in reason for reason in TACTIC.supports(wide, H200).reasons)
    strided = View(wide.q.buffer, (1, 1, 8, 256), (4096, 4096, 512, 2))
    group = group_of(1, 1, 8, 8, 64, 64, "fp16")
    refused = TACTIC.supports(Attention(**{**vars(group), "q": strided}), H200)
    assert "q: its last axis is not contiguous" in refused.reasons
