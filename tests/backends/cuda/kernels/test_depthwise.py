"""Depthwise convolutions in Triton's interpreter against PyTorch, and that they compile."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import NUMPY, Memory, run_launches

from trine.backends.cuda.groups import Activation, Buffer, DepthwiseConv, Epilogue, View, contiguous_strides
from trine.backends.cuda.kernels import depthwise_spans
from trine.backends.cuda.kernels.depthwise import DepthwiseRows, sum_tiles
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TACTIC = DepthwiseRows()
SWISH = Activation("hardswish")


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena") -> View:
    return View(Buffer(name, kind, dtype, math.prod(shape)), shape, contiguous_strides(shape))


def convolution(
    x: tuple[int, int, int, int],
    filter_size: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilation: tuple[int, int] = (1, 1),
    dtype: str = "fp16",
    sums: bool = False,
    residual: bool = False,
    gap: int = 0,
) -> DepthwiseConv:
    """gap: channels of other tensors between two pixels' of x and y."""
    n, h, w, c = x
    p = (h + pads[0] + pads[2] - (filter_size[0] - 1) * dilation[0] - 1) // stride[0] + 1
    q = (w + pads[1] + pads[3] - (filter_size[1] - 1) * dilation[1] - 1) // stride[1] + 1

    def image(name: str, high: int, wide: int) -> View:
        whole = dense(name, dtype, (n, high, wide, c + gap))
        return View(whole.buffer, (n, high, wide, c), whole.strides, gap)

    return DepthwiseConv(
        name="d",
        x=image("x", h, w),
        w=dense("w", dtype, (*filter_size, c), "weight"),
        y=image("y", p, q),
        stride=stride,
        pads=pads,
        dilation=dilation,
        epilogue=Epilogue(
            dense("b", "fp32", (c,), "weight"), SWISH, image("r", p, q) if residual else None, Activation("relu")
        ),
        sums=dense("s", "fp32", (n, sum_tiles((n, p, q, c)), c)) if sums else None,
    )


def check(group: DepthwiseConv, configuration: Any) -> None:
    rng = np.random.default_rng(0)
    memory = Memory()
    epilogue = group.epilogue
    arrays: dict[str, Any] = {}
    for name, view in {"x": group.x, "w": group.w, "b": epilogue.bias, "r": epilogue.residual}.items():
        if view is not None:
            values = rng.normal(size=view.shape).astype(NUMPY[view.dtype])
            memory.put(view, values)
            arrays[name] = torch.from_numpy(values.astype(np.float64))
    run_launches(TACTIC.launches(group, configuration, SM90), memory)
    top, left, bottom, right = group.pads
    x = torch.nn.functional.pad(arrays["x"].permute(0, 3, 1, 2), (left, right, top, bottom))
    w = arrays["w"].permute(2, 0, 1)[:, None]
    y = torch.nn.functional.conv2d(x, w, arrays["b"], group.stride, 0, group.dilation, w.shape[0])
    y = torch.nn.functional.hardswish(y)
    if "r" in arrays:
        y = y + arrays["r"].permute(0, 3, 1, 2)
    wanted = torch.relu(y).permute(0, 2, 3, 1).numpy()
    unit = {"fp16": 1e-3, "bf16": 8e-3, "fp32": 2e-6}[group.y.dtype]  # one rounding
    np.testing.assert_allclose(memory.get(group.y).astype(np.float64), wanted, rtol=unit, atol=unit)
    if group.sums is not None:
        # fp32 sums of fp32 numbers, before they are rounded to y's type
        np.testing.assert_allclose(memory.get(group.sums).sum(1), wanted.sum((1, 2)), rtol=1e-5, atol=1e-4)


GROUPS = {
    "3x3": convolution((2, 9, 10, 24), (3, 3)),
    "3x3 stride 2": convolution((1, 11, 14, 16), (3, 3), (2, 2)),
    "3x3 stride 2, uneven pads": convolution((1, 8, 8, 16), (3, 3), (2, 2), (0, 0, 1, 1)),
    "5x5 stride 2": convolution((1, 14, 14, 40), (5, 5), (2, 2), (2, 2, 2, 2)),
    "5x5": convolution((2, 7, 7, 48), (5, 5), (1, 1), (2, 2, 2, 2)),
    "7x7": convolution((1, 9, 9, 8), (7, 7), (1, 1), (3, 3, 3, 3)),
    "dilated": convolution((1, 12, 9, 8), (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
    "dilated, stride 2 and 1": convolution((1, 12, 9, 8), (3, 2), (2, 1), (2, 0, 1, 1), (3, 2)),
    "without padding": convolution((1, 6, 6, 8), (3, 3), pads=(0, 0, 0, 0)),
    "one column": convolution((1, 6, 1, 8), (3, 1), pads=(1, 0, 1, 0)),
    "odd channels": convolution((2, 5, 5, 13), (3, 3)),
    "one channel": convolution((1, 5, 5, 1), (3, 3)),
    "residual": convolution((1, 6, 6, 16), (3, 3), residual=True),
    "between others": convolution((2, 6, 6, 16), (3, 3), gap=8, residual=True),
    "fp32": convolution((1, 6, 6, 20), (3, 3), dtype="fp32"),
    "bf16": convolution((1, 6, 6, 8), (3, 3), dtype="bf16"),
    "sums 3x3": convolution((2, 9, 10, 24), (3, 3), sums=True),
    "sums 5x5": convolution((1, 14, 14, 40), (5, 5), pads=(2, 2, 2, 2), sums=True, residual=True),
    "sums 7x7 pixels": convolution((2, 7, 7, 48), (5, 5), pads=(2, 2, 2, 2), sums=True),
    "sums wide": convolution((1, 30, 18, 8), (3, 3), (1, 1), sums=True),
    "sums few": convolution((1, 3, 2, 3), (3, 3), sums=True),
}


@pytest.mark.parametrize("name", GROUPS)
def test_convolution(name: str) -> None:
    group = GROUPS[name]
    assert TACTIC.supports(group, SM90), TACTIC.supports(group, SM90).reasons
    configurations = TACTIC.configurations(group, SM90)
    for configuration in {0: configurations[0], len(configurations) // 2: configurations[-1]}.values():
        check(group, configuration)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GROUPS)
def test_every_configuration(name: str) -> None:
    for configuration in TACTIC.configurations(GROUPS[name], SM90):
        check(GROUPS[name], configuration)


@pytest.mark.parametrize("sums", [False, True])
@pytest.mark.parametrize(
    ("x", "size", "stride", "dilation", "residual"),
    [
        ((2, 9, 14, 24), 3, 1, 1, True),
        ((1, 7, 7, 40), 5, 1, 1, False),
        ((2, 15, 16, 13), 5, 2, 1, True),
        ((1, 3, 4, 64), 5, 1, 1, False),
        ((1, 16, 13, 32), 3, 2, 1, False),
        ((1, 12, 11, 8), 3, 1, 2, False),
    ],
)
def test_many_images(
    x: tuple[int, int, int, int],
    size: int,
    stride: int,
    dilation: int,
    residual: bool,
    sums: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tiles for large outputs, at a size that the interpreter can compute."""
    monkeypatch.setattr(depthwise_spans, "_LARGE", 0)
    pads = (size // 2 * dilation,) * 4
    group = convolution(x, (size, size), (stride,) * 2, pads, (dilation,) * 2, sums=sums, residual=residual)
    assert TACTIC.supports(group, SM90), TACTIC.supports(group, SM90).reasons
    configurations = TACTIC.configurations(group, SM90)
    assert any(each.get("span", 1) > 1 for each in configurations)
    kinds = {(each["span"] > 1, each.get("walk", False)): each for each in depthwise_spans.spanned(group)}
    assert any(walk for _, walk in kinds) == (dilation == 1)
    for configuration in kinds.values():
        check(group, configuration)


def test_many_images_have_few_sums() -> None:
    assert sum_tiles((128, 14, 14, 672)) == 2
    assert sum_tiles((1, 14, 14, 672)) > 2


def test_equal_images_give_equal_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise_spans, "_LARGE", 0)
    group = convolution((3, 8, 14, 16), (3, 3), sums=True)
    assert group.sums is not None
    rng = np.random.default_rng(1)
    memory = Memory()
    for view in group.views():
        values = rng.normal(size=view.shape).astype(NUMPY[view.dtype])
        memory.put(view, np.repeat(values[:1], 3, axis=0) if view is group.x else values)
    run_launches(TACTIC.launches(group, TACTIC.configurations(group, SM90)[0], SM90), memory)
    for view in (group.y, group.sums):
        result = memory.get(view)
        assert (result == result[:1]).all()


def test_one_image_fills_the_gpu() -> None:
    for side, channels, size in ((112, 32, 3), (28, 240, 5), (14, 480, 5), (7, 1152, 5)):
        for sums in (False, True):
            pad = (size // 2,) * 4
            group = convolution((1, side, side, channels), (size, size), pads=pad, sums=sums)
            launches = [TACTIC.launches(group, each, SM90)[0] for each in TACTIC.configurations(group, SM90)]
            assert max(each.grid[0] for each in launches) >= SM90.multiprocessors


def test_refusals_carry_reasons() -> None:
    group = convolution((2, 9, 10, 24), (3, 3), sums=True)
    assert group.sums is not None
    wrong = replace(group, x=replace(group.x, strides=(2160, 10, 1, 90)), sums=dense("s", "fp32", (2, 1, 24)))
    reasons = TACTIC.supports(wrong, SM90).reasons
    assert reasons == ("x: channels 90 elements apart; wanted 1", "sums over 1 tiles; wanted 5")


LARGE = {
    "3x3": convolution((128, 112, 112, 16), (3, 3), residual=True),
    "5x5 sums": convolution((128, 14, 14, 672), (5, 5), pads=(2, 2, 2, 2), sums=True),
    "one image": convolution((1, 7, 7, 960), (5, 5), pads=(2, 2, 2, 2), sums=True, dtype="bf16"),
    "fp32": convolution((8, 56, 56, 72), (5, 5), (2, 2), pads=(2, 2, 2, 2), dtype="fp32"),
    "quick": convolution((1, 7, 7, 480), (3, 3), sums=True, residual=True),
}


@pytest.mark.parametrize("name", ["quick"])
@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_compiles(name: str, target: Any) -> None:
    (kernel,) = compile_group(TACTIC, LARGE[name], target)
    assert kernel.cubin


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_walking_compiles(target: Any) -> None:
    group = convolution((128, 7, 7, 960), (5, 5), pads=(2, 2, 2, 2), sums=True)
    walking = next(each for each in TACTIC.configurations(group, target) if each.get("walk"))
    (kernel,) = compile_group(TACTIC, group, target, walking)
    assert kernel.cubin
