"""Pooling, reductions, normalisation, softmax and squeeze-and-excite in Triton's interpreter against reference.py, and
that they compile."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import check_group

from trine.backends.cuda.groups import (
    NO_ACTIVATION,
    Activation,
    Buffer,
    Group,
    LayerNorm,
    Pool,
    Reduce,
    RowStatistics,
    Softmax,
    SqueezeExcite,
    View,
    contiguous_strides,
)
from trine.backends.cuda.kernels.layer_norm import LayerNormRows
from trine.backends.cuda.kernels.layer_norm_long import LayerNormLong
from trine.backends.cuda.kernels.pool import PoolRows
from trine.backends.cuda.kernels.reduce import ReduceTiles
from trine.backends.cuda.kernels.row_statistics import StatisticsOfRows
from trine.backends.cuda.kernels.softmax import SoftmaxRows
from trine.backends.cuda.kernels.squeeze_excite import SqueezeExciteImages
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TACTICS = {
    Pool: PoolRows(),
    Reduce: ReduceTiles(),
    LayerNorm: LayerNormRows(),
    RowStatistics: StatisticsOfRows(),
    Softmax: SoftmaxRows(),
    SqueezeExcite: SqueezeExciteImages(),
}


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena", gap: int = 0) -> View:
    """gap: elements of others between two runs of the last axis."""
    wide = (*shape[:-1], shape[-1] + gap)
    return View(Buffer(name, kind, dtype, math.prod(wide)), shape, contiguous_strides(wide), gap // 2)


def pool(
    kind: str,
    x: tuple[int, int, int, int],
    y: tuple[int, int],
    window: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (2, 2),
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilation: tuple[int, int] = (1, 1),
    count_pads: bool = False,
    dtype: str = "fp16",
    gap: int = 0,
) -> Pool:
    return Pool(
        name=kind,
        x=dense("x", dtype, x, gap=gap),
        y=dense("y", dtype, (x[0], *y, x[3]), gap=gap),
        kind=kind,
        window=window,
        stride=stride,
        pads=pads,
        dilation=dilation,
        count_pads=count_pads,
    )


def reduction(kind: str, shape: tuple[int, int, int], dtype: str = "fp16", act: Activation = NO_ACTIVATION) -> Reduce:
    return Reduce(name=kind, x=dense("x", dtype, shape), y=dense("y", dtype, (shape[0], shape[2])), kind=kind, act=act)


def norm(
    rows: int, n: int, dtype: str = "fp16", rms: bool = False, residual: bool = False, affine: bool = True, gap: int = 0
) -> LayerNorm:
    shape = (rows, n)
    return LayerNorm(
        name="norm",
        x=dense("x", dtype, shape, gap=gap),
        scale=dense("scale", "fp32", (n,), "weight") if affine else None,
        bias=dense("bias", "fp32", (n,), "weight") if affine and not rms else None,
        epsilon=1e-5,
        y=dense("y", dtype, shape, gap=gap),
        rms=rms,
        residual=dense("residual", dtype, shape) if residual else None,
        total=dense("total", dtype, shape) if residual else None,
    )


def statistics(rows: int, n: int, dtype: str = "fp16", gap: int = 0) -> RowStatistics:
    x, y = dense("x", dtype, (rows, n), gap=gap), dense("y", "fp32", (rows, 2))
    return RowStatistics(name="statistics", x=x, y=y, epsilon=1e-5)


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


GROUPS: dict[str, Group] = {
    "max pool": pool("max", (2, 8, 9, 16), (4, 5)),
    "max pool, odd channels": pool("max", (1, 7, 7, 5), (3, 3), pads=(0, 0, 0, 0), dtype="fp32"),
    "max pool, dilated, between others": pool("max", (1, 9, 9, 8), (3, 3), dilation=(2, 2), gap=8),
    "max pool, ceil": pool("max", (1, 6, 6, 8), (3, 3), pads=(0, 0, 0, 0)),
    "average pool": pool("avg", (2, 8, 8, 8), (4, 4), dtype="bf16"),
    "average pool, pads count": pool("avg", (1, 8, 8, 8), (4, 4), count_pads=True),
    "average pool, never outside": pool("avg", (1, 9, 8, 8), (4, 3), pads=(0, 0, 0, 0), dtype="fp32"),
    "average pool, large window": pool("avg", (1, 9, 9, 8), (1, 1), (9, 9), (1, 1), (0, 0, 0, 0)),
    "global average": reduction("mean", (2, 49, 24)),
    "mean of rows": reduction("mean", (5, 300, 1)),
    "sum of one": reduction("sum", (3, 1, 8), "fp32"),
    "max of rows": reduction("max", (3, 17, 1)),
    "min": reduction("min", (1, 5, 6), "bf16"),
    "product": reduction("prod", (2, 6, 3), "fp32"),
    "norm of rows": reduction("l2", (4, 40, 1), "fp32", Activation("relu")),
    "sum of squares": reduction("sumsq", (2, 40, 5), "fp32"),
    "mean over much": reduction("mean", (1, 600, 3), "fp32", Activation("sigmoid")),
    "largest of much": reduction("max", (1, 200, 2), "fp32"),
    "layer norm": norm(5, 96),
    "layer norm, odd": norm(3, 100, "bf16", gap=4),
    "layer norm, residual": norm(4, 64, "fp32", residual=True),
    "layer norm, bare": norm(2, 33, "fp32", affine=False),
    "rms norm": norm(4, 64, rms=True),
    "statistics": statistics(5, 96),
    "statistics, odd": statistics(3, 100, "bf16", gap=4),
    "statistics of fp32": statistics(9, 33, "fp32"),
    "softmax": Softmax(name="s", x=dense("x", "fp16", (5, 100)), y=dense("y", "fp16", (5, 100)), scale=0.3),
    "log softmax": Softmax(name="s", x=dense("x", "fp32", (3, 10)), y=dense("y", "fp32", (3, 10)), log=True),
    "squeeze-excite": squeeze(2, 4, 72, 24),
    "squeeze-excite, odd": squeeze(1, 7, 100, 9, "bf16"),
    "squeeze-excite, one tile": squeeze(3, 1, 16, 8, "fp32", bias=False),
    "squeeze-excite, many tiles": squeeze(1, 50, 40, 10),
}
_UNITS = {"fp16": 1e-3, "bf16": 8e-3, "fp32": 4e-6}  # one rounding; sums in another order


def check(group: Group, configuration: Any) -> None:
    unit = _UNITS[group.y.dtype]
    check_group(TACTICS[type(group)], group, SM90, configuration, unit, unit)


@pytest.mark.parametrize("name", GROUPS)
def test_group(name: str) -> None:
    group = GROUPS[name]
    configurations = TACTICS[type(group)].configurations(group, SM90)
    check(group, configurations[0])
    check(group, configurations[-1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GROUPS)
def test_every_configuration(name: str) -> None:
    group = GROUPS[name]
    for configuration in TACTICS[type(group)].configurations(group, SM90):
        check(group, configuration)


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_reductions_in_parts(parts: int) -> None:
    for name in ("mean over much", "largest of much", "sum of squares", "norm of rows"):
        check(GROUPS[name], {"block": [16, 2], "parts": parts, "num_warps": 1})


@pytest.mark.parametrize("name", ["layer norm", "layer norm, residual"])
def test_programs_that_walk_over_rows(name: str) -> None:
    """Each takes several tiles, the last of which is not full, and not all have as many."""
    group = norm(70, 96, "fp32", residual="residual" in name)
    small = replace(SM90, multiprocessors=1)
    configuration = {"rows": 4, "num_warps": 8, "walk": True}
    (launch,) = TACTICS[LayerNorm].launches(group, configuration, small)
    assert launch.grid == (4, 1, 1)
    check_group(TACTICS[LayerNorm], group, small, configuration, 4e-6, 4e-6)


def test_programs_that_walk_over_rows_for_statistics() -> None:
    group, tactic = statistics(70, 96), TACTICS[RowStatistics]
    small = replace(SM90, multiprocessors=1)
    configuration = {"rows": 2, "num_warps": 1, "walk": True}
    (launch,) = tactic.launches(group, configuration, small)
    assert launch.grid == (32, 1, 1)
    check_group(tactic, group, small, configuration, 4e-6, 4e-6)
    assert any("walk" in each for each in tactic.configurations(statistics(128 * 197, 768), SM90)[:8])
    assert not any("walk" in each for each in tactic.configurations(group, SM90))


def test_statistics_of_rows_whose_mean_is_large() -> None:
    group = statistics(4, 500, "fp32")
    x = (1e4 + np.random.default_rng(0).standard_normal((4, 500))).astype(np.float32)
    check_group(TACTICS[RowStatistics], group, SM90, {"rows": 2, "num_warps": 2}, 2e-3, 2e-3, x=x)


LONG: dict[str, LayerNorm] = {
    "fp16": norm(2, 9000),
    "residual": norm(1, 10000, "fp32", residual=True),
    "rms": norm(2, 5000, "fp32", rms=True, affine=False),
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("parts", [1, 3, 5])
def test_rows_in_parts(name: str, parts: int) -> None:
    group = LONG[name]
    tactic = LayerNormLong()
    assert tactic.supports(group, SM90)
    unit = _UNITS[group.y.dtype]
    check_group(tactic, group, SM90, {"block": 1024, "parts": parts, "num_warps": 4}, unit, unit)


def test_rows_in_parts_whose_mean_is_large() -> None:
    """The differences from it are what counts: squares minus the mean's square would leave nothing of them."""
    group = norm(1, 5000, "fp32", affine=False)
    rng = np.random.default_rng(0)
    x = (1e4 + rng.standard_normal((1, 5000))).astype(np.float32)
    unit = 2e-3  # what fp32 leaves of numbers around 10,000
    check_group(LayerNormLong(), group, SM90, {"block": 512, "parts": 4, "num_warps": 4}, unit, unit, x=x)


def test_long_rows_fill_the_gpu() -> None:
    for rows in (1, 3, 400):
        group = norm(rows, 200704)
        configuration = LayerNormLong().configurations(group, SM90)[0]
        first, second = LayerNormLong().launches(group, configuration, SM90)
        assert first.grid == second.grid
        assert first.grid[0] >= SM90.multiprocessors // 2
    assert "rows of 64; wanted at least 4096" in LayerNormLong().supports(norm(2, 64), SM90).reasons


def test_only_many_rows_are_walked() -> None:
    tactic = TACTICS[LayerNorm]
    assert any("walk" in each for each in tactic.configurations(norm(128 * 197, 768), SM90))
    assert not any("walk" in each for each in tactic.configurations(norm(197, 768), SM90))


def test_long_reductions_fill_the_gpu() -> None:
    group = reduction("mean", (1, 1 << 16, 64))
    launches = TACTICS[Reduce].launches(group, TACTICS[Reduce].configurations(group, SM90)[0], SM90)
    assert len(launches) == 2
    assert launches[0].grid[0] >= 64


def test_refusals_carry_reasons() -> None:
    for group, text in {
        pool("lp", (1, 8, 8, 8), (4, 4)): "'lp' pooling; wanted max or avg",
        reduction("mean", (2, 4, 8), "int32"): "x: int32; wanted fp16, bf16 or fp32",
        norm(1, 40000): "rows of 40000; at most 32768 fit in registers",
        statistics(1, 40000): "rows of 40000; at most 32768 fit in registers",
        replace(statistics(1, 8, "int32"), y=dense("y", "fp16", (1, 2))): "y: fp16; wanted fp32",
        squeeze(1, 1, 9000, 8): "9000 channels and 8 between; at most 8192 and 1024",
    }.items():
        assert text in TACTICS[type(group)].supports(group, SM90).reasons
        (other,) = [each for kind, each in TACTICS.items() if kind is (Softmax if type(group) is not Softmax else Pool)]
        assert not other.supports(group, SM90)


REPRESENTATIVES: dict[str, Group] = {
    "max pool": pool("max", (128, 112, 112, 64), (56, 56)),
    "global average": reduction("mean", (128, 49, 2048)),
    "max in parts": reduction("max", (1, 1 << 16, 64), "bf16"),
    "layer norm": norm(128 * 197, 768, residual=True),
    "statistics": statistics(128 * 197, 768),
    "softmax": Softmax(name="s", x=dense("x", "fp16", (128, 1000)), y=dense("y", "fp32", (128, 1000))),
    "squeeze-excite": squeeze(1, 7, 1152, 48),
}
MORE: dict[str, Group] = {
    **REPRESENTATIVES,
    "average of rows": reduction("mean", (4096, 3000, 1), "fp32"),
    "long layer norm": norm(64, 8192, "bf16"),
    "long statistics": statistics(64, 32768, "bf16"),
    "large squeeze-excite": squeeze(128, 4, 2304, 144),
    "early squeeze-excite": squeeze(128, 196, 32, 8),
}


@pytest.mark.parametrize("name", REPRESENTATIVES)
@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_compiles(name: str, target: Any) -> None:
    group = REPRESENTATIVES[name]
    assert compile_group(TACTICS[type(group)], group, target)


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda t: t.name)
def test_long_rows_compile(target: Any) -> None:
    assert compile_group(LayerNormLong(), norm(1, 200704, residual=True), target)
