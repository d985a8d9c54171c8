"""Convolutions in Triton's interpreter against reference.py, and that they compile."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import check_group

from trine.backends.cuda.groups import Activation, Buffer, Conv, Epilogue, Prologue, View, contiguous_strides
from trine.backends.cuda.kernels.conv_launch import ImplicitGemmConv
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TACTIC = ImplicitGemmConv()
RELU = Activation("relu")


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena") -> View:
    return View(Buffer(name, kind, dtype, math.prod(shape)), shape, contiguous_strides(shape))


def convolution(
    x: tuple[int, int, int, int],
    filters: tuple[int, int, int],
    stride: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    dtype: str = "fp16",
    residual: bool = False,
    gap: int = 0,
) -> Conv:
    """gap: channels of other tensors between two pixels' of x, y and the residual."""
    n, h, w, c = x
    k, r, s = filters
    p = (h + pads[0] + pads[2] - (r - 1) * dilation[0] - 1) // stride[0] + 1
    q = (w + pads[1] + pads[3] - (s - 1) * dilation[1] - 1) // stride[1] + 1

    def image(name: str, high: int, wide: int, channels: int) -> View:
        whole = dense(name, dtype, (n, high, wide, channels + gap))
        return View(whole.buffer, (n, high, wide, channels), whole.strides, gap)

    return Conv(
        name="c",
        x=image("x", h, w, c),
        w=dense("w", dtype, (k, r, s, c // groups), "weight"),
        y=image("y", p, q, k),
        stride=stride,
        pads=pads,
        dilation=dilation,
        groups=groups,
        epilogue=Epilogue(
            dense("b", "fp32", (k,), "weight"),
            Activation("leaky_relu", 0.5),
            image("r", p, q, k) if residual else None,
            RELU if residual else Activation(),
        ),
    )


def tile(m: int, n: int, k: int, split: int = 1, group_m: int = 1, warps: int = 4) -> dict[str, int]:
    return {
        "block_m": m,
        "block_n": n,
        "block_k": k,
        "num_warps": warps,
        "num_stages": 3,
        "group_m": group_m,
        "split_k": split,
    }


def before(group: Conv, per_image: bool) -> Conv:
    n, _, _, c = group.x.shape
    scale = dense("scale", "fp32", (n, c) if per_image else (c,))
    return replace(group, prologue=Prologue(scale, dense("shift", "fp32", (c,)), RELU))


ONES = (1, 1, 1, 1)
GROUPS = {
    "3x3": (convolution((2, 7, 9, 64), (40, 3, 3), pads=ONES), tile(64, 32, 64)),
    "3x3, tiles in columns": (convolution((2, 7, 9, 32), (80, 3, 3), pads=ONES), tile(16, 16, 32, group_m=3)),
    "3x3 stride 2": (convolution((1, 9, 11, 64), (32, 3, 3), (2, 2), ONES), tile(16, 32, 32)),
    "3x3 stride 2, uneven pads": (convolution((1, 8, 8, 32), (24, 3, 3), (2, 2), (0, 0, 1, 1)), tile(16, 32, 32)),
    "without padding": (convolution((1, 6, 7, 32), (16, 3, 2)), tile(32, 16, 32)),
    "dilated": (convolution((1, 10, 9, 32), (16, 3, 3), (1, 2), (2, 3, 2, 3), (2, 3)), tile(32, 16, 32)),
    "1x7": (convolution((1, 6, 9, 32), (16, 1, 7), pads=(0, 3, 0, 3)), tile(32, 16, 32)),
    "1x1 stride 2": (convolution((2, 7, 7, 64), (48, 1, 1), (2, 2)), tile(16, 32, 64)),
    "stem 7x7": (convolution((2, 15, 13, 4), (32, 7, 7), (2, 2), (3, 3, 3, 3)), tile(64, 32, 32)),
    "stem 3x3": (convolution((1, 9, 9, 4), (24, 3, 3), (2, 2), ONES), tile(32, 32, 32)),
    "stem 11x11 stride 4": (convolution((1, 27, 27, 4), (16, 11, 11), (4, 4), (2, 2, 2, 2)), tile(32, 16, 64)),
    "3 channels": (convolution((1, 8, 8, 3), (8, 3, 3), pads=ONES), tile(32, 16, 32)),
    "24 channels": (convolution((1, 8, 8, 24), (10, 3, 3), pads=ONES), tile(32, 16, 32)),
    "24 channels, no padding": (convolution((1, 8, 8, 24), (10, 3, 3)), tile(32, 16, 32)),
    "patches": (convolution((1, 8, 8, 4), (20, 4, 4), (4, 4)), tile(16, 16, 32)),
    "8 groups of 8": (convolution((1, 6, 6, 64), (64, 3, 3), pads=ONES, groups=8), tile(16, 16, 32)),
    "2 groups of 32": (convolution((2, 5, 5, 64), (48, 3, 3), (2, 2), ONES, groups=2), tile(16, 16, 32)),
    "3 groups of 5": (convolution((1, 5, 5, 15), (9, 3, 3), pads=ONES, groups=3), tile(16, 16, 32)),
    "residual": (convolution((1, 6, 6, 32), (32, 3, 3), pads=ONES, residual=True), tile(16, 16, 32)),
    "between others": (convolution((2, 6, 5, 32), (24, 3, 3), pads=ONES, residual=True, gap=8), tile(16, 32, 32)),
    "split in 4": (convolution((2, 7, 9, 64), (40, 3, 3), pads=ONES, residual=True), tile(64, 32, 32, 4)),
    "split in 8, unevenly": (convolution((1, 5, 5, 32), (40, 3, 3), pads=ONES, gap=8), tile(16, 32, 32, 8)),
    "groups, split": (convolution((1, 5, 5, 64), (64, 3, 3), pads=ONES, groups=2, residual=True), tile(16, 32, 32, 2)),
    "flat, split": (convolution((1, 9, 9, 24), (72, 3, 3), pads=ONES, residual=True), tile(16, 64, 32, 2)),
    "prologue": (before(convolution((2, 5, 6, 32), (16, 3, 3), pads=ONES), False), tile(16, 16, 32)),
    "prologue per image": (before(convolution((2, 5, 6, 32), (16, 3, 3), pads=ONES), True), tile(16, 16, 32)),
    "prologue, flat": (before(convolution((2, 5, 6, 24), (16, 1, 1)), True), tile(16, 16, 32)),
    "fp32": (convolution((1, 6, 6, 32), (16, 3, 3), pads=ONES, dtype="fp32", residual=True), tile(16, 16, 32)),
}
TOLERANCE = {"fp16": (2e-3, 4e-3), "fp32": (1e-5, 3e-5)}  # the interpreter's tl.dot has no bf16


@pytest.mark.parametrize("name", GROUPS)
def test_convolution(name: str) -> None:
    group, configuration = GROUPS[name]
    check_group(TACTIC, group, SM90, configuration, *TOLERANCE[group.y.dtype])


@pytest.mark.parametrize("name", GROUPS)
def test_best_guess(name: str) -> None:
    group, _ = GROUPS[name]
    best = TACTIC.configurations(group, SM90)[0]
    check_group(TACTIC, group, SM90, best, *TOLERANCE[group.y.dtype])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GROUPS)
def test_every_configuration(name: str) -> None:
    group, _ = GROUPS[name]
    for configuration in TACTIC.configurations(group, SM90):
        check_group(TACTIC, group, SM90, configuration, *TOLERANCE[group.y.dtype])


def test_refusals_carry_reasons() -> None:
    group = convolution((1, 5, 5, 16), (16, 3, 3), groups=2)
    wrong = replace(
        before(group, False),
        x=replace(group.x, strides=(400, 5, 1, 25)),
        w=dense("w", "fp32", group.w.shape, "weight"),
    )
    assert TACTIC.supports(wrong, SM90).reasons == (
        "x: channels 25 elements apart; wanted 1",
        "x is fp16, w is fp32; wanted the same",
        "a prologue with 2 groups; wanted one group",
    )


LARGE = {
    "3x3": convolution((128, 28, 28, 128), (128, 3, 3), pads=ONES, residual=True),
    "3x3 in 64": convolution((128, 56, 56, 64), (64, 3, 3), pads=ONES),
    "1x1 stride 2": convolution((128, 56, 56, 256), (512, 1, 1), (2, 2)),
    "stem": convolution((128, 224, 224, 4), (64, 7, 7), (2, 2), (3, 3, 3, 3)),
    "groups": convolution((128, 28, 28, 256), (256, 3, 3), pads=ONES, groups=32),
    "one image": convolution((1, 14, 14, 256), (256, 3, 3), pads=ONES, residual=True),
    "bf16": convolution((1, 7, 7, 512), (512, 3, 3), pads=ONES, residual=True, dtype="bf16"),
    "fp32": convolution((8, 28, 28, 128), (128, 3, 3), (2, 2), ONES, dtype="fp32"),
}


@pytest.mark.parametrize("name", LARGE)
def test_configurations_differ_and_fit(name: str) -> None:
    for target in ALL_TARGETS:
        found = TACTIC.configurations(LARGE[name], target)
        assert 4 <= len(found) <= 20
        assert len({tuple(each.items()) for each in found}) == len(found)


def test_one_image_is_split() -> None:
    best = TACTIC.configurations(LARGE["one image"], SM90)[0]
    launches = TACTIC.launches(LARGE["one image"], best, SM90)
    assert math.prod(launches[0].grid) >= SM90.multiprocessors / 2


@pytest.mark.parametrize("name", ["3x3", "one image"])
@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_compiles(name: str, target: Any) -> None:
    assert all(kernel.cubin for kernel in compile_group(TACTIC, LARGE[name], target))
