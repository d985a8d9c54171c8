"""A convolution with its 1x1 convolution in Triton's interpreter against reference.py, and that both compile."""

from __future__ import annotations

import math

import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import check_group

from trine.backends.cuda.groups import Activation, Buffer, ConvGemm, Epilogue, View, contiguous_strides
from trine.backends.cuda.kernels.conv_gemm import ConvThenGemm
from trine.backends.cuda.target import TARGETS, Target

TACTIC = ConvThenGemm()
RELU = Activation("relu")


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena") -> View:
    return View(Buffer(name, kind, dtype, math.prod(shape)), shape, contiguous_strides(shape))


def bottleneck(
    images: int, size: int, channels: int, between: int, columns: int, stride: int = 1, residual: bool = True
) -> ConvGemm:
    out = (size - 1) // stride + 1
    rows = images * out * out
    return ConvGemm(
        name="bottleneck",
        x=dense("x", "fp16", (images, size, size, channels)),
        w=dense("w", "fp16", (between, 3, 3, channels), "weight"),
        pixels=(out, out),
        stride=(stride, stride),
        pads=(1, 1, 1, 1),
        between=Epilogue(dense("b1", "fp32", (between,), "weight"), RELU),
        b=dense("b", "fp16", (columns, between), "weight"),
        epilogue=Epilogue(
            dense("b2", "fp32", (columns,), "weight"),
            Activation(),
            dense("r", "fp16", (rows, columns)) if residual else None,
            RELU,
        ),
        y=dense("y", "fp16", (rows, columns)),
    )


CONFIGURATION = {"block_m": 64, "block_k": 32, "chunk": 64, "num_warps": 4, "num_stages": 3}


GROUPS = (
    bottleneck(2, 7, 32, 32, 128),
    bottleneck(1, 9, 64, 64, 128, stride=2),
    bottleneck(3, 5, 32, 64, 128, residual=False),
)
LARGE = (bottleneck(32, 56, 64, 64, 256), bottleneck(8, 56, 64, 64, 256, residual=False))


@pytest.mark.parametrize("group", GROUPS, ids=["residual", "stride 2", "no residual"])
def test_the_pixels_between_are_rounded_and_multiplied(group: ConvGemm) -> None:
    assert not TACTIC.supports(group, TARGETS["sm_90"]).reasons
    check_group(TACTIC, group, TARGETS["sm_90"], CONFIGURATION, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda target: target.name)
def test_the_first_guess_compiles(target: Target) -> None:
    assert compile_group(TACTIC, LARGE[0], target)


def test_fp32_is_refused() -> None:
    group = bottleneck(2, 7, 32, 32, 128)
    wide = ConvGemm(**{**vars(group), "x": dense("x", "fp32", group.x.shape)})
    assert "fp32" in TACTIC.supports(wide, TARGETS["sm_90"]).reasons[0]
