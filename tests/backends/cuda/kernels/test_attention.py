"""Attention in Triton's interpreter against its meaning in NumPy, and compiled for every architecture."""

from __future__ import annotations

import math

import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import check_group

from trine.backends.cuda.groups import Attention, Buffer, View, contiguous_strides
from trine.backends.cuda.kernels.attention import TACTICS
from trine.backends.cuda.target import TARGETS

TACTIC = TACTICS[0]
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


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda target: target.name)
def test_compiles(target):
    kernel = compile_group(TACTIC, CASES["windows"], target)[0]
    assert kernel.shared_bytes <= target.shared_bytes


def test_many_heads_fit_the_grid():
    group = group_of(70000, 4, 49, 49, 32, 32, "fp16")
    launch = TACTIC.launches(group, TACTIC.configurations(group, H200)[0], H200)[0]
    assert launch.grid[0] >= 280000  # the second and third number may be at most 65535
    assert launch.grid[1:] == (1, 1)


def test_refuses_with_reasons():
    wide = group_of(1, 1, 8, 8, 512, 512, "fp16")
    assert any("512" in reason for reason in TACTIC.supports(wide, H200).reasons)
    strided = View(wide.q.buffer, (1, 1, 8, 256), (4096, 4096, 512, 2))
    group = group_of(1, 1, 8, 8, 64, 64, "fp16")
    refused = TACTIC.supports(Attention(**{**vars(group), "q": strided}), H200)
    assert "q: its last axis is not contiguous" in refused.reasons
