"""ConvTranspose beside ONNX Runtime; and that the tactics of convolutions take what it becomes."""

from __future__ import annotations

import numpy as np
import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import check_group
from backends.cuda.lowered import agrees, kinds
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_checks import build

from trine.backends.cuda.groups import Conv
from trine.backends.cuda.kernels import conv_launch
from trine.backends.cuda.lowering import Lowered
from trine.backends.cuda.target import target_named


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def transposed(
    attributes: str, window: tuple[int, ...] = (3, 3), channels: int = 4, out: int = 5, bias: bool = True,
    size: tuple[int, ...] = (4, 5), precision: str = "fp32", tolerance: float = 3e-6, after: str = "",
) -> Lowered:  # fmt: skip
    """``out``: channels of a group."""
    groups = int(attributes.partition("group = ")[2].partition(",")[0] or 1)
    extents = ",".join(map(str, (channels, *size)))
    constants = {"w": weights(channels, out, *window), **({"b": weights(groups * out)} if bias else {})}
    body = f"c = ConvTranspose<{attributes}>(x, w{', b' if bias else ''})\ny = {after or 'Identity'}(c)"
    return agrees(
        build(f"float[n,{extents}] x", "float y", body, **constants), precision=precision, tolerance=tolerance
    )


@pytest.mark.parametrize(
    ("attributes", "window", "convolutions"),
    [
        ("strides = [1, 1]", (3, 3), 1),
        ("strides = [2, 2]", (2, 2), 4),
        ("strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]", (3, 3), 4),
        ("strides = [2, 2], pads = [1, 1, 1, 1]", (4, 4), 4),
        ("strides = [2, 3], pads = [0, 2, 1, 1]", (3, 5), 6),
        ("strides = [3, 3], pads = [0, 0, 0, 0]", (2, 2), 4),
        ("strides = [2, 2], dilations = [2, 3], pads = [1, 1, 1, 1]", (3, 3), 2),
        ("strides = [2, 2], output_shape = [9, 10]", (3, 3), 4),
        ('strides = [2, 2], auto_pad = "SAME_UPPER"', (3, 3), 4),
        ('strides = [2, 2], auto_pad = "SAME_LOWER"', (3, 3), 4),
        ("strides = [2, 2], group = 2", (3, 3), 4),
        ("strides = [4, 4], pads = [3, 3, 3, 3]", (8, 8), 16),
    ],
)
def test_windows(attributes: str, window: tuple[int, int], convolutions: int) -> None:
    found = kinds(transposed(attributes, window))
    assert found.get("Conv", 0) + found.get("Gemm", 0) == convolutions


def blocks(attributes: str, size: tuple[int, int], block: tuple[int, int], count: int, channels: int = 3) -> Lowered:
    """Col2Im of ``count`` blocks of ``block``."""
    constants = {"image": np.array(size, np.int64), "block": np.array(block, np.int64)}
    body = f"y = Col2Im<{attributes}>(x, image, block)"
    extents = f"{channels * block[0] * block[1]},{count}"
    return agrees(build(f"float[n,{extents}] x", "float y", body, **constants), precision="fp32", tolerance=3e-6)


@pytest.mark.parametrize(
    ("attributes", "size", "block", "count"),
    [
        ("strides = [2, 2], pads = [1, 1, 1, 1]", (8, 10), (3, 3), 20),
        ("strides = [1, 1]", (5, 6), (2, 3), 16),
        ("strides = [3, 2]", (7, 6), (3, 2), 6),
        ("strides = [2, 2], dilations = [2, 1], pads = [0, 1, 2, 0]", (7, 7), (3, 2), 12),
    ],
)
def test_blocks_into_images(attributes: str, size: tuple[int, int], block: tuple[int, int], count: int) -> None:
    found = kinds(blocks(attributes, size, block, count))
    assert found["Conv"] >= 1


def test_channel_by_channel() -> None:
    assert kinds(transposed("strides = [2, 2], group = 4", out=1))["DepthwiseConv"] == 4


@pytest.mark.parametrize("bias", [False, True])
def test_one_axis(bias: bool) -> None:
    transposed("strides = [3], pads = [1, 0], output_padding = [1]", (4,), size=(7,), bias=bias)
    transposed("strides = [3]", (2,), size=(7,), bias=bias)


def test_an_activation_is_fused_where_there_is_one_convolution() -> None:
    assert kinds(transposed("strides = [1, 1], pads = [1, 1, 1, 1]", after="Relu")) == {"Conv": 1}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 3e-3), ("bf16", 2e-2)])
def test_narrow(precision: str, tolerance: float) -> None:
    transposed("strides = [2, 2], pads = [1, 1, 1, 1]", (4, 4), precision=precision, tolerance=tolerance)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_window(data: st.DataObject) -> None:
    """One axis at a time decides; the other one is along for the ride."""
    window, stride, dilation = (data.draw(st.integers(1, 4), label=name) for name in ("window", "stride", "dilation"))
    size = data.draw(st.integers(1, 5), label="size")
    reach = dilation * (window - 1) + 1
    extra = data.draw(st.integers(0, stride - 1), label="output padding")
    before, after = (data.draw(st.integers(0, reach - 1), label="pad") for _ in range(2))
    if stride * (size - 1) + extra + reach - before - after < 1:
        return
    attributes = (
        f"strides = [{stride}], dilations = [{dilation}], pads = [{before}, {after}], output_padding = [{extra}]"
    )
    transposed(attributes, (window,), channels=2, out=2, size=(size,))


def test_kernels_take_it() -> None:
    """In Triton's interpreter."""
    made = transposed("strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]")
    target = target_named("sm_80")
    checked = 0
    for group in made.groups:
        if isinstance(group, Conv):
            tactic = next(each for each in conv_launch.TACTICS if each.supports(group, target))
            check_group(tactic, group, target, tactic.configurations(group, target)[0], rtol=1e-4, atol=1e-4)
            checked += 1
    assert checked


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda target: target.name)
def test_kernels_compile(target: object) -> None:
    made = transposed("strides = [2, 2], pads = [1, 1, 1, 1]", (4, 4), precision="fp16", tolerance=3e-3)
    group = next(each for each in made.groups if isinstance(each, Conv))
    tactic = next(each for each in conv_launch.TACTICS if each.supports(group, target))
    compile_group(tactic, group, target)
