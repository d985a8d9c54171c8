"""Matrix products in Triton's interpreter against reference.py, and that they compile."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import check_group

from trine.backends.cuda.groups import (
    NO_ACTIVATION,
    Activation,
    Buffer,
    Epilogue,
    Gemm,
    Normal,
    Prologue,
    View,
    contiguous_strides,
)
from trine.backends.cuda.kernels.gemm_launch import GemmTiles
from trine.backends.cuda.kernels.gemm_tma import TmaGemm
from trine.backends.cuda.kernels.gemv import FewRows
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TILES, ROWS, TMA = GemmTiles(), FewRows(), TmaGemm()
RELU = Activation("relu")


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena", gap: int = 0) -> View:
    """gap: elements of other tensors after each run of the last axis."""
    whole = (*shape[:-1], shape[-1] + gap)
    return View(Buffer(name, kind, dtype, math.prod(whole)), shape, contiguous_strides(whole))


def turned(view: View) -> View:
    """The last two axes exchanged."""
    return replace(
        view,
        shape=(*view.shape[:-2], view.shape[-1], view.shape[-2]),
        strides=(*view.strides[:-2], view.strides[-1], view.strides[-2]),
    )


def product(
    m: int,
    n: int,
    k: int,
    batch: tuple[int, ...] = (),
    dtype: str = "fp16",
    residual: bool = False,
    bias: bool = True,
    gap: int = 0,
    b_turned: bool = False,
) -> Gemm:
    """With an activation; with a residual, another after it."""
    b_kind = "arena" if batch else "weight"
    b = turned(dense("b", dtype, (*batch, k, n), b_kind)) if b_turned else dense("b", dtype, (*batch, n, k), b_kind)
    return Gemm(
        name="g",
        a=dense("a", dtype, (*batch, m, k), gap=gap),
        b=b,
        y=dense("y", dtype, (*batch, m, n), gap=gap),
        epilogue=Epilogue(
            dense("bias", "fp32", (n,), "weight") if bias else None,
            Activation("leaky_relu", 0.5) if bias else NO_ACTIVATION,
            dense("r", dtype, (*batch, m, n), gap=2 * gap) if residual else None,
            RELU if residual else NO_ACTIVATION,
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


def before(group: Gemm, images: int = 0, shift: bool = True) -> Gemm:
    rows, k = group.a.shape[-2:]
    scale = dense("scale", "fp32", (images, k) if images else (k,))
    prologue = Prologue(scale, dense("shift", "fp32", (k,)) if shift else None, Activation("silu"))
    return replace(group, prologue=prologue, rows_per_image=rows // images if images else 1)


def normalised(group: Gemm) -> Gemm:
    """Sums over rows that are normalised after they are summed."""
    rows, columns = group.y.shape
    return replace(
        group, normal=Normal(dense("statistics", "fp32", (rows, 2)), dense("sums", "fp32", (columns,), "weight"))
    )


def strided() -> Gemm:
    """Heads between each other: (batch, head, row, channel) views of (batch, row, head, channel) memory."""
    group = product(9, 16, 24, (2, 3), bias=False)

    def heads(view: View) -> View:
        _, h, m, c = view.shape
        return replace(view, strides=(m * h * c, c, h * c, 1))

    return replace(group, a=heads(group.a), b=heads(group.b), y=heads(group.y))


GROUPS = {
    "even": (product(128, 64, 64), tile(64, 32, 32)),
    "residual": (product(70, 48, 64, residual=True), tile(32, 16, 32)),
    "in columns of tiles": (product(100, 80, 32, residual=True), tile(16, 16, 32, group_m=3)),
    "odd": (product(37, 29, 45, residual=True), tile(32, 32, 32)),
    "24 products": (product(50, 40, 24), tile(32, 32, 32)),
    "one product": (product(20, 18, 1), tile(16, 16, 16)),
    "one column": (product(20, 1, 40), tile(16, 16, 32)),
    "b turned": (product(40, 48, 64, b_turned=True), tile(32, 32, 32)),
    "b turned, odd": (product(37, 29, 45, b_turned=True, residual=True), tile(16, 16, 32)),
    "between others": (product(33, 24, 40, residual=True, gap=8), tile(16, 32, 32)),
    "nothing after": (product(33, 24, 40, bias=False), tile(16, 32, 32)),
    "one batch axis": (product(20, 24, 40, (3,), residual=True), tile(16, 16, 32, group_m=2)),
    "two batch axes": (product(20, 24, 40, (2, 3), residual=True, b_turned=True), tile(16, 32, 32)),
    "heads": (strided(), tile(16, 16, 32)),
    "split in 4": (product(20, 40, 256, residual=True), tile(16, 32, 32, 4)),
    "split in 8, unevenly": (product(7, 65, 150, gap=8, residual=True), tile(16, 32, 16, 8)),
    "scale": (before(product(40, 24, 64)), tile(16, 16, 32)),
    "scale, odd": (before(product(40, 24, 45), shift=False), tile(16, 16, 32)),
    "scale of an image": (before(product(96, 24, 64, residual=True), 3), tile(16, 16, 32)),
    "scale of two images in a tile": (before(product(60, 24, 40), 3), tile(16, 16, 32)),
    "scale of many images in a tile": (before(product(60, 24, 40), 12), tile(16, 16, 32)),
    "scale, split": (before(product(60, 24, 128), 3, shift=False), tile(16, 32, 32, 2)),
    "normalised": (normalised(product(70, 48, 64)), tile(32, 16, 32)),
    "normalised, odd": (normalised(product(37, 29, 45, residual=True, gap=8)), tile(32, 32, 32)),
    "normalised, nothing after": (normalised(product(20, 40, 24, bias=False, b_turned=True)), tile(16, 32, 32)),
    "normalised, split": (normalised(product(20, 40, 256)), tile(16, 32, 32, 4)),
    "fp32": (product(40, 24, 48, dtype="fp32", residual=True), tile(16, 16, 16)),
    "one row": (product(1, 100, 200, residual=True), tile(16, 32, 64, 2)),
    "five rows": (product(5, 37, 75, residual=True, gap=8), tile(16, 32, 64)),
}
FEW = {
    "one row": product(1, 100, 200, residual=True),
    "one row, odd": product(1, 37, 75),
    "two rows": product(2, 64, 512, bias=False),
    "three rows": product(3, 40, 96, residual=True),
    "five rows": product(5, 37, 75, residual=True, gap=8),
    "eight rows": product(8, 24, 3000),
    "fp32": product(3, 20, 48, dtype="fp32", residual=True),
}
TOLERANCE = {"fp16": (2e-3, 4e-3), "fp32": (1e-5, 3e-5)}  # the interpreter's tl.dot has no bf16


@pytest.mark.parametrize("name", GROUPS)
def test_product(name: str) -> None:
    group, configuration = GROUPS[name]
    check_group(TILES, group, SM90, configuration, *TOLERANCE[group.y.dtype])


@pytest.mark.parametrize("name", GROUPS)
def test_best_guess(name: str) -> None:
    group, _ = GROUPS[name]
    check_group(TILES, group, SM90, TILES.configurations(group, SM90)[0], *TOLERANCE[group.y.dtype])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GROUPS)
def test_every_configuration(name: str) -> None:
    group, _ = GROUPS[name]
    for configuration in TILES.configurations(group, SM90):
        check_group(TILES, group, SM90, configuration, *TOLERANCE[group.y.dtype])


@pytest.mark.parametrize("name", FEW)
def test_few_rows(name: str) -> None:
    group = FEW[name]
    configurations = ROWS.configurations(group, SM90)
    for configuration in (configurations[0], configurations[-1]):
        check_group(ROWS, group, SM90, configuration, *TOLERANCE[group.y.dtype])


FETCHED = {
    "even": product(128, 128, 128),
    "uneven": product(150, 72, 136, residual=True, gap=8),
    "many tiles": product(650, 200, 72, residual=True),
    "few products": product(64, 40, 24, bias=False),
}
TOO_SMALL = product(512, 64, 16)


@pytest.mark.parametrize("name", FETCHED)
def test_fetched_tiles(name: str) -> None:
    group = FETCHED[name]
    small = replace(SM90, multiprocessors=3)  # several tiles for a program
    for configuration in {each["block_m"]: each for each in TMA.configurations(group, SM90)}.values():
        check_group(TMA, group, small, configuration, *TOLERANCE[group.y.dtype])


def test_fetching_refuses() -> None:
    assert TMA.supports(product(128, 128, 100), SM90).reasons == (
        "a: strides (100, 1) from 0; wanted multiples of 16 bytes, and 1",
        "b: strides (100, 1) from 0; wanted multiples of 16 bytes, and 1",
    )
    assert TMA.supports(before(product(32, 128, 128, b_turned=True)), TARGETS["sm_89"]).reasons == (
        "sm_89 has no tensor memory accelerator; wanted sm_90 or later",
        "a prologue; rows go from memory to the tensor cores untouched",
        "a result of (32, 128); wanted 64 rows and 16 columns or more",
        "b: strides (1, 128) from 0; wanted multiples of 16 bytes, and 1",
    )
    assert TMA.supports(TOO_SMALL, SM90).reasons == (
        "a result of (512, 64) with 16 products; every tile is far larger",
    )


def test_refusals_carry_reasons() -> None:
    group = product(9, 16, 24, (2,))
    wrong = replace(
        before(group, 3),
        a=replace(group.a, strides=(9 * 48, 48, 2)),
        b=dense("b", "fp32", (1, 16, 24)),
    )
    assert TILES.supports(wrong, SM90).reasons == (
        "a: last axis of stride 2; wanted 1",
        "b: batch axes (1,); wanted (2,), as y has",
        "a is fp16, b is fp32; wanted the same",
        "a scale of each image with batch axes; wanted either",
    )
    assert ROWS.supports(group, SM90).reasons == ("batch axes (2,); wanted none", "9 rows; at most 8")


def test_normalisation_is_refused_with_reasons() -> None:
    plain = normalised(product(8, 64, 64))
    assert ROWS.supports(plain, SM90).reasons == ("a normalisation of the sums; wanted none",)
    assert TMA.supports(normalised(product(64, 64, 64)), SM90).reasons == ("a normalisation of the sums; wanted none",)
    assert plain.normal is not None
    wrong = replace(plain.normal, statistics=dense("s", "fp16", (8, 2)), sums=dense("sums", "fp32", (64, 2)))
    wrong = replace(wrong, sums=replace(wrong.sums, shape=(64,), strides=(2,)))
    assert TILES.supports(replace(before(plain), normal=wrong), SM90).reasons == (
        "statistics: fp16 with strides (2, 1); wanted fp32, side by side",
        "sums: fp32 with strides (2,); wanted fp32, side by side",
        "a normalisation with a prologue or batch axes; wanted neither",
    )


LARGE = {
    "many rows": product(128 * 196, 1024, 256, residual=True),
    "narrow": product(128 * 3136, 64, 64),
    "24 columns of 72": product(128 * 3136, 24, 72, residual=True),
    "transformer": product(32 * 197, 3072, 768),
    "scale": before(product(32 * 196, 112, 672, residual=True), 32, shift=False),
    "normalised": normalised(product(32 * 197, 3072, 768)),
    "heads": product(197, 197, 64, (32, 12), bias=False),
    "heads, b turned": product(197, 64, 197, (32, 12), bias=False, b_turned=True),
    "49 rows": product(49, 2048, 512, residual=True),
    "16 rows": product(16, 1000, 2048),
    "one row": product(1, 4096, 9216),
    "bf16": product(8 * 197, 768, 3072, residual=True, dtype="bf16"),
    "fp32": product(8 * 197, 768, 768, residual=True, dtype="fp32"),
}


@pytest.mark.parametrize("name", LARGE)
def test_configurations_differ_and_fit(name: str) -> None:
    for target in ALL_TARGETS:
        found = TILES.configurations(LARGE[name], replace(target, tf32=True))
        assert 4 <= len(found) <= 24
        assert len({tuple(each.items()) for each in found}) == len(found)


@pytest.mark.parametrize("name", ["49 rows", "16 rows"])
def test_few_rows_may_fill_the_gpu(name: str) -> None:
    found = TILES.configurations(LARGE[name], SM90)
    programs = [math.prod(TILES.launches(LARGE[name], each, SM90)[0].grid) for each in found]
    assert max(programs) >= SM90.multiprocessors
    assert any(each["split_k"] > 1 for each in found)


@pytest.mark.parametrize("name", ["many rows", "scale", "normalised", "16 rows"])
@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_compiles(name: str, target: Any) -> None:
    assert all(kernel.cubin for kernel in compile_group(TILES, LARGE[name], target))


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_few_rows_compile(target: Any) -> None:
    assert all(kernel.cubin for kernel in compile_group(ROWS, LARGE["one row"], target))


@pytest.mark.parametrize("target", ["sm_90", "sm_100"])
def test_fetching_compiles(target: str) -> None:
    (kernel,) = compile_group(TMA, LARGE["transformer"], TARGETS[target])
    assert kernel.parameters[:2] == ("tensormap", "tensormap")
    assert kernel.shared_bytes <= TARGETS[target].shared_bytes
