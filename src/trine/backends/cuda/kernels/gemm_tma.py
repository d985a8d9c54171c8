# ruff: noqa: N803 - a kernel's constants are capitals
"""Matrix products whose operands the tensor memory accelerator fetches: programs that stay and take tile after tile, so
that the next tile's operands arrive while one is finished."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import ITEM_BYTES, Gemm, Group, View
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.gemm_operands import epilogue_constants, in_units, refusals
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.tactic import Argument, Launch, Scalar, TensorMap
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "TmaGemm"]

_FIRST = 90  # capability
# rows, columns, products of a step, warps. A descriptor's box is as wide as its swizzle, 64 products, at most.
_TILES = (
    (128, 256, 64, 8),
    (256, 128, 64, 8),
    (128, 128, 64, 8),
    (128, 128, 64, 4),
    (64, 256, 64, 4),
    (256, 64, 64, 8),
    (128, 64, 64, 4),
    (64, 128, 64, 4),
    (64, 64, 64, 4),
    (128, 32, 64, 4),
    (128, 128, 32, 8),
    (128, 64, 32, 4),
)


@triton.jit
def gemm_tma(
    a,
    b,
    bias,
    residual,
    y,
    rows,
    columns,
    products,
    y_row,
    residual_row,
    UNIT_COLUMNS: tl.constexpr,
    UNIT_PRODUCTS: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT_RESIDUAL: tl.constexpr,
    WIDE: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """Tiles of BLOCK_M rows and BLOCK_N columns. a, b: descriptors of (rows, products) and (columns, products), of
    which what lies outside is read as 0. Sizes and strides of pointers count units, see gemm."""
    columns = columns * UNIT_COLUMNS
    products = products * UNIT_PRODUCTS
    y_row = y_row * UNIT_Y
    if residual is not None:
        residual_row = residual_row * UNIT_RESIDUAL
    blocks_m = (rows + BLOCK_M - 1) // BLOCK_M
    blocks_n = (columns + BLOCK_N - 1) // BLOCK_N
    steps = (products + BLOCK_K - 1) // BLOCK_K
    for tile in tl.range(tl.program_id(0), blocks_m * blocks_n, tl.num_programs(0), flatten=True):
        first = tile // (GROUP_M * blocks_n) * GROUP_M
        high = tl.minimum(blocks_m - first, GROUP_M)
        at_m = (first + tile % (GROUP_M * blocks_n) % high) * BLOCK_M
        at_n = tile % (GROUP_M * blocks_n) // high * BLOCK_N
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for step in tl.range(0, steps):
            left = a.load([at_m, step * BLOCK_K])
            right = b.load([at_n, step * BLOCK_K])
            total = tl.dot(left, right.T, total)
        m = at_m + tl.arange(0, BLOCK_M)
        n = at_n + tl.arange(0, BLOCK_N)
        inside = (m < rows)[:, None] & (n < columns)[None, :]
        if bias is not None:
            total += tl.load(bias + n, mask=n < columns, other=0.0).to(tl.float32)[None, :]
        total = activate(total, ACT, ACT_A, ACT_B)
        place = m.to(tl.int64) if WIDE else m
        if residual is not None:
            there = (place * residual_row)[:, None] + n[None, :]
            total += tl.load(residual + there, mask=inside, other=0.0).to(tl.float32)
        total = activate(total, AFTER, AFTER_A, AFTER_B)
        tl.store(y + ((place * y_row)[:, None] + n[None, :]), total.to(y.dtype.element_ty), mask=inside)


class TmaGemm:
    """Two matrices of 16 bits, both with the products side by side, on Hopper and later."""

    name = "triton gemm tma"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        reasons = refusals(group)
        if target.capability < _FIRST:
            reasons.append(f"{target.name} has no tensor memory accelerator; wanted sm_{_FIRST} or later")
        if not isinstance(group, Gemm):
            return Support(tuple(reasons))
        if len(group.y.shape) != 2:
            reasons.append(f"batch axes {group.y.shape[:-2]}; wanted none")
        if group.prologue is not None:
            reasons.append("a prologue; rows go from memory to the tensor cores untouched")
        if group.normal is not None:
            reasons.append("a normalisation of the sums; wanted none")
        if group.y.shape[-2] < 64 or group.y.shape[-1] < 16:
            reasons.append(f"a result of {group.y.shape}; wanted 64 rows and 16 columns or more")
        for name, view in {"a": group.a, "b": group.b}.items():
            if view.dtype == "fp32":
                reasons.append(f"{name}: fp32; wanted fp16 or bf16")
            if view.buffer.kind not in ("arena", "weight"):
                reasons.append(f"{name}: in an {view.buffer.kind}, whose address may be odd")
            if view.strides[-1] != 1 or view.strides[-2] % 8 or view.strides[-2] < view.shape[-1] or view.offset % 8:
                reasons.append(
                    f"{name}: strides {view.strides} from {view.offset}; wanted multiples of 16 bytes, and 1"
                )
        if not reasons and not self.configurations(group, target):
            reasons.append(f"a result of {group.y.shape} with {group.a.shape[-1]} products; every tile is far larger")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_k: products of a step; group_m: rows of tiles that are finished together."""
        assert isinstance(group, Gemm)
        rows, columns, products = group.y.shape[-2], group.y.shape[-1], group.a.shape[-1]
        found = []
        for high, wide, deep, warps in _TILES:
            if wide >= 2 * max(32, power_of_two(columns)) or high >= 2 * power_of_two(rows) or deep >= 2 * products:
                continue
            fitting = [each for each in (4, 3) if _shared(group, high, wide, deep, each) <= target.shared_bytes]
            for stages in fitting[: 2 if high * wide > 128 * 64 else 1]:
                tiles = -(-rows // high) * -(-columns // wide)
                waves = tiles / target.multiprocessors
                # Small tiles read more for each product; a last wave that is not full waits.
                read = 1.0 + 32 * (1 / high + 1 / wide)
                waste = tiles * high * wide / (rows * columns)
                cost = read * waste * math.ceil(waves) / waves * (1.0 if stages == 4 else 1.03)
                padded = -(-products // deep) * deep / products
                cost *= padded * (1.0 if deep == 64 else 1.2)
                found.append((cost, {**_named(high, wide, deep, warps, stages), "group_m": 8}))
        found.sort(key=lambda pair: pair[0])
        return [each for _, each in found[:12]]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Gemm)
        high, wide, deep = (configuration[name] for name in ("block_m", "block_n", "block_k"))
        rows, columns = group.y.shape
        sizes, units = in_units(group, False)
        operands: dict[str, Argument | View | None] = {
            "a": TensorMap(group.a, (high, deep)),
            "b": TensorMap(group.b, (wide, deep)),
            "bias": group.epilogue.bias,
            "residual": group.epilogue.residual,
            "y": group.y,
            "rows": Scalar("i32", rows),
            **sizes,
        }
        constants = {
            name: value for name, value in {**units, **epilogue_constants(group)}.items() if name in gemm_tma.arg_names
        }
        constants |= {"BLOCK_M": high, "BLOCK_N": wide, "BLOCK_K": deep, "GROUP_M": configuration["group_m"]}
        tiles = -(-rows // high) * -(-columns // wide)
        # Small tiles leave room for a second program.
        warps, stages = configuration["num_warps"], configuration["num_stages"]
        resident = 2 if 2 * _shared(group, high, wide, deep, stages) <= target.shared_bytes and warps == 4 else 1
        grid = (min(tiles, resident * target.multiprocessors), 1, 1)
        return [launch_of(gemm_tma, grid, operands, constants, warps, stages)]


def _shared(group: Gemm, high: int, wide: int, deep: int, stages: int) -> int:
    """Bytes of shared memory: operands under way, and the result on its way to rows that are stored whole."""
    size = ITEM_BYTES[group.a.dtype]
    return stages * (high + wide) * deep * size + high * wide * size + 1024


def _named(high: int, wide: int, deep: int, warps: int, stages: int) -> dict[str, int]:
    return {"block_m": high, "block_n": wide, "block_k": deep, "num_warps": warps, "num_stages": stages}


TACTICS = (TmaGemm(),)
