"""Strides of image convolutions moved into channels: the same answers, and what is left alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trine.backends.cuda.fusion import space_to_depth
from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.fusion.space_to_depth import move_stride_into_channels
from trine.backends.cuda.groups import Buffer, Conv, Expr, Gemm, Pointwise, View, contiguous_strides
from trine.backends.cuda.memory_plan import plan_memory
from trine.backends.cuda.reference import run_groups


def dense(name, shape, kind="arena", data=None):
    buffer = Buffer(name, kind, "fp32", math.prod(shape), data)
    return View(buffer, shape, contiguous_strides(shape))


def network(size, window, stride, pads, channels=3, groups=1, dilation=1):
    """NCHW pictures copied to NHWC, convolved, copied out."""
    rng = np.random.default_rng(0)
    source = dense("input", (2, channels, size, size), "input")
    images = dense("images", (2, size, size, channels))
    nchw = View(images.buffer, source.shape, tuple(images.strides[axis] for axis in (0, 3, 1, 2)))
    weights = rng.standard_normal((8, window, window, channels // groups)).astype(np.float32)
    w = dense("w", weights.shape, "weight", weights.reshape(-1))
    out = (size + pads[0] + pads[2] - (window - 1) * dilation - 1) // stride + 1
    y = dense("y", (2, out, out, 8))
    result = dense("output", (2, out, out, 8), "output")
    same = Expr("input")
    conv = Conv(
        name="conv", x=images, w=w, y=y, stride=(stride, stride), pads=pads, groups=groups, dilation=(dilation,) * 2
    )
    groups_ = [
        Pointwise(name="in", y=nchw, inputs=(source,), expr=same, by_rows=True),
        conv,
        Pointwise(name="out", y=result, inputs=(y,), expr=same, by_rows=True),
    ]
    return groups_, source.buffer, result.buffer


def answer(groups, source, result):
    x = np.random.default_rng(1).standard_normal(source.elements).astype(np.float32)
    return run_groups(groups, plan_memory(groups), {source: x})[result]


@pytest.mark.parametrize(
    ("size", "window", "stride", "pads"),
    [
        (16, 7, 2, (3, 3, 3, 3)),
        (16, 3, 2, (1, 1, 1, 1)),
        (16, 3, 2, (0, 0, 1, 1)),
        (24, 11, 4, (2, 2, 2, 2)),
        (16, 4, 4, (0, 0, 0, 0)),
        (18, 3, 3, (1, 1, 1, 1)),
        (16, 2, 2, (1, 1, 0, 0)),
    ],
)
def test_the_same_answers_without_a_stride(size, window, stride, pads):
    before, source, result = network(size, window, stride, pads)
    program = Program(before)
    move_stride_into_channels(program)
    product = program.groups[1]
    if window == stride and pads == (0, 0, 0, 0):
        assert isinstance(product, Gemm)
    else:
        assert isinstance(product, Conv)
        assert product.stride == (1, 1)
    np.testing.assert_allclose(
        answer(program.groups, source, result), answer(before, source, result), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 15, "window": 3, "stride": 2, "pads": (1, 1, 1, 1)},
        {"size": 16, "window": 3, "stride": 1, "pads": (1, 1, 1, 1)},
        {"size": 16, "window": 3, "stride": 2, "pads": (1, 1, 1, 1), "channels": 8},
        {"size": 16, "window": 3, "stride": 2, "pads": (2, 2, 2, 2), "dilation": 2},
        {"size": 16, "window": 3, "stride": 2, "pads": (1, 1, 1, 1), "channels": 4, "groups": 4},
    ],
)
def test_leaves_alone(settings):
    before, _, _ = network(**settings)
    program = Program(before)
    move_stride_into_channels(program)
    assert program.groups == before


def test_leaves_images_that_others_read():
    before, _, _ = network(16, 3, 2, (1, 1, 1, 1))
    images = before[0].y
    before.append(Pointwise(name="too", y=dense("z", images.shape), inputs=(images,), expr=Expr("input")))
    program = Program(before)
    move_stride_into_channels(program)
    assert program.groups == before


@pytest.mark.parametrize(
    ("window", "stride", "pads"),
    [(7, 2, (3, 3, 3, 3)), (3, 2, (1, 1, 1, 1)), (3, 2, (0, 0, 1, 1))],
)
def test_of_many_images_windows_overlap(window, stride, pads, monkeypatch):
    monkeypatch.setattr(space_to_depth, "_FEWEST_IMAGES", 1)
    before, source, result = network(16, window, stride, pads)
    program = Program(before)
    move_stride_into_channels(program)
    convolution = program.groups[-2]
    assert isinstance(convolution, Conv)
    assert convolution.w.shape[2] == 1
    assert convolution.pads[1] == convolution.pads[3] == 0
    assert convolution.x.strides[2] < convolution.x.shape[3]
    np.testing.assert_allclose(
        answer(program.groups, source, result), answer(before, source, result), rtol=1e-4, atol=1e-4
    )
