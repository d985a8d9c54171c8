"""Squeeze-and-excite in blocks of images, in Triton's interpreter against reference.py, and that it compiles."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import NUMPY, Memory, check_group, run_launches

from trine.backends.cuda.groups import Activation, Buffer, SqueezeExcite, View, contiguous_strides
from trine.backends.cuda.kernels.squeeze_excite_blocks import SqueezeExciteBlocks
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TACTIC = SqueezeExciteBlocks()


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena") -> View:
    return View(Buffer(name, kind, dtype, math.prod(shape)), shape, contiguous_strides(shape))


def squeeze(
    images: int, tiles: int, channels: int, hidden: int, dtype: str = "fp16", bias: bool = True
) -> SqueezeExcite:
    return SqueezeExcite(
        name="squeeze",
        sums=dense("sums", "fp32", (images, tiles, channels)),
        factor=1 / (7 * tiles),
        w1=dense("w1", dtype, (hidden, channels), "weight"),
        b1=dense("b1", "fp32", (hidden,), "weight") if bias else None,
        w2=dense("w2", dtype, (channels, hidden), "weight"),
        b2=dense("b2", "fp32", (channels,), "weight") if bias else None,
        act1=Activation("silu"),
        act2=Activation("hardsigmoid", 1 / 6, 0.5),
        y=dense("y", dtype, (images, channels)),
    )


GROUPS = {  # the interpreter's tl.dot has no bf16
    "even": squeeze(16, 4, 72, 24),
    "odd": squeeze(19, 3, 100, 9),
    "one tile, no bias": squeeze(33, 1, 300, 40, bias=False),
    "many tiles": squeeze(17, 20, 40, 10),
}


@pytest.mark.parametrize("name", GROUPS)
def test_group(name: str) -> None:
    group = GROUPS[name]
    # Two more roundings, of numbers near 1: the means and what is between the layers.
    for configuration in TACTIC.configurations(group, SM90):
        check_group(TACTIC, group, SM90, configuration, 4e-3, 4e-3)


def test_equal_images_give_equal_bits() -> None:
    group = squeeze(40, 2, 96, 24)
    rng = np.random.default_rng(3)
    memory = Memory()
    for view in group.views():
        values = rng.normal(size=view.shape).astype(NUMPY[view.dtype])
        memory.put(view, np.repeat(values[:1], 40, axis=0) if view is group.sums else values)
    run_launches(TACTIC.launches(group, TACTIC.configurations(group, SM90)[0], SM90), memory)
    result = memory.get(group.y)
    assert np.ptp(result[0].astype(np.float32)) > 0
    assert (result == result[:1]).all()


def test_refusals_carry_reasons() -> None:
    assert TACTIC.supports(squeeze(8, 1, 64, 8), SM90).reasons == ("8 images; at least 16 make a block",)
    reasons = TACTIC.supports(squeeze(16, 1, 64, 8, "fp32"), SM90).reasons
    assert reasons == ("weights of fp32 and fp32; wanted fp16 or bf16 for both",)
    group = squeeze(16, 1, 64, 8)
    turned = replace(group, w1=replace(group.w1, strides=(1, 8)))
    assert TACTIC.supports(turned, SM90).reasons == ("w1: last axis of stride 8; wanted 1",)


def test_sums_that_are_under_way_fit() -> None:
    """Triton fetches the next step's tiles of sums into shared memory: four of 256 channels need 144 KB."""
    group = squeeze(128, 4, 2304, 96)
    deep = {"images": 16, "first": 16, "second": 32, "products": 256, "num_warps": 4}
    assert deep in TACTIC.configurations(group, SM90)
    assert deep not in TACTIC.configurations(group, TARGETS["sm_86"])
    for target in ALL_TARGETS:
        assert compile_group(TACTIC, group, target)
        reasons = TACTIC.supports(squeeze(16, 16, 2304, 96), target).reasons
        assert reasons == ("16 tiles of sums; no block of them fits into shared memory",)


LARGE = (
    squeeze(128, 1, 960, 240),
    squeeze(128, 1, 960, 240, "bf16"),
    squeeze(128, 4, 2304, 96),
    squeeze(16, 56, 144, 6),
)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_compiles(dtype: str) -> None:
    assert len(compile_group(TACTIC, squeeze(128, 1, 960, 240, dtype), SM90)) == 2
