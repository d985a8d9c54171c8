"""Gathers of rows in Triton's interpreter against NumPy, and that they compile."""

from __future__ import annotations

import math

import numpy as np
import pytest
from backends.cuda.compiling import ALL_TARGETS, compile_group
from backends.cuda.interpret import NUMPY, Memory, run_launches

from trine.backends.cuda.groups import Buffer, GatherRows, View, contiguous_strides
from trine.backends.cuda.kernels.gather_rows import GatherWholeRows
from trine.backends.cuda.target import TARGETS, Target

TACTIC = GatherWholeRows()
SM90 = TARGETS["sm_90"]


def dense(name: str, dtype: str, shape: tuple[int, ...]) -> View:
    return View(Buffer(name, "arena", dtype, math.prod(shape)), shape, contiguous_strides(shape))


def gather(index: list[int], row: int, dtype: str = "fp16", images: int = 2, residual: bool = False) -> GatherRows:
    data = np.array(index, np.int32)
    rows = View(Buffer("index", "weight", "int32", data.size, data), (data.size,), (1,))
    shape = (images, len(index), row)
    wide = Buffer("y", "arena", dtype, images * (len(index) + 1) * (row + 8))
    y = View(wide, shape, ((len(index) + 1) * (row + 8), row + 8, 1), 8)
    x = dense("x", dtype, (images, max(index) + 1, row))
    return GatherRows(name="g", y=y, x=x, index=rows, residual=dense("r", dtype, shape) if residual else None)


GROUPS = tuple(
    gather([1, -1, 0], row, dtype, residual=residual)
    for row in (96, 1100)
    for dtype in ("fp32", "fp16", "bf16")
    for residual in (False, True)
)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("row", [16, 96, 1100])
def test_rows(row: int, dtype: str, residual: bool) -> None:
    index = [3, -1, 0, 0, 5, 2, -1]
    group = gather(index, row, dtype, residual=residual)
    generator = np.random.default_rng(0)
    memory = Memory()
    x = generator.standard_normal(group.x.shape).astype(NUMPY[dtype])
    memory.put(group.x, x)
    want = np.where((np.array(index) >= 0)[None, :, None], x[:, np.maximum(index, 0)], NUMPY[dtype](0))
    if group.residual is not None:
        added = generator.standard_normal(group.y.shape).astype(NUMPY[dtype])
        memory.put(group.residual, added)
        want = (want.astype(np.float32) + added.astype(np.float32)).astype(NUMPY[dtype])
    for configuration in TACTIC.configurations(group, SM90):
        run_launches(TACTIC.launches(group, configuration, SM90), memory)
        got = memory.get(group.y).astype(np.float32)
        # The interpreter cuts bfloat16 off where a GPU rounds.
        close = 2.0**-7 if residual and dtype == "bf16" else 0.0
        np.testing.assert_allclose(got, want.astype(np.float32), rtol=close, atol=0)


def test_refusals() -> None:
    group = gather([1, 0], 16)
    turned = View(group.x.buffer, group.x.shape, (group.x.strides[0], 1, group.x.shape[1]))
    refused = TACTIC.supports(GatherRows(name="g", y=group.y, x=turned, index=group.index), SM90)
    assert refused.reasons == ("x: rows with stride 2; wanted 1",)
    other = GatherRows(name="g", y=group.y, x=dense("x", "fp32", (2, 2, 16)), index=group.index)
    assert TACTIC.supports(other, SM90).reasons == ("x: fp32; wanted y's type, one of fp16, bf16, fp32",)


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda target: target.name)
def test_it_compiles(target: Target) -> None:
    assert compile_group(TACTIC, gather([1, 0], 96, residual=True), target)
