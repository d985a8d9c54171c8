# ruff: noqa: N803 - a kernel's constants are capitals
"""Matrix products ``y = epilogue(prologue(a) @ b.T)``: tiles on tensor cores, and a few rows by plain dot products.

Sizes and strides are arguments, so that a network's layers share kernels. Triton has to know which powers of two divide
them before it copies 16 bytes at a time; an argument can only be marked as a multiple of 16, and 24 or 40 channels are
none. So they are given in units, a constant each: 40 as 5 units of 8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import triton
import triton.language as tl

from trine.backends.cuda.groups import Buffer, Gemm, Group, Prologue, View
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.gemm_tiles import gemm_tiles, gemv_tiles
from trine.backends.cuda.kernels.operands import activation_constants, launch_of
from trine.backends.cuda.tactic import Argument, Launch, Scalar, Scratch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "FewRows", "GemmTiles", "epilogue_constants", "in_units", "refusals"]

_FLOATS = ("fp16", "bf16", "fp32")
_FEW = 8  # rows


@triton.jit
def _finish(
    total,
    m,
    n,
    rows,
    columns,
    bias,
    residual,
    y,
    y_row,
    residual_row,
    WIDE: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
):
    """The epilogue of a tile of fp32 sums for rows ``m`` and columns ``n``, and its store."""
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


@triton.jit
def gemm(
    a,
    b,
    scale,
    shift,
    bias,
    residual,
    y,
    partial,
    rows,
    columns,
    products,
    a_row,
    b_row,
    y_row,
    residual_row,
    scale_row,
    rows_per_image,
    batches,
    a_outer,
    a_inner,
    b_outer,
    b_inner,
    y_outer,
    y_inner,
    residual_outer,
    residual_inner,
    UNIT_COLUMNS: tl.constexpr,
    UNIT_PRODUCTS: tl.constexpr,
    UNIT_A: tl.constexpr,
    UNIT_B: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT_RESIDUAL: tl.constexpr,
    EVEN_K: tl.constexpr,
    TURNED: tl.constexpr,
    WIDE: tl.constexpr,
    PROLOGUE: tl.constexpr,
    IMAGES: tl.constexpr,
    BEFORE: tl.constexpr,
    BEFORE_A: tl.constexpr,
    BEFORE_B: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    PRECISION: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """A tile of BLOCK_M rows and BLOCK_N columns of one batch entry. Programs: (tiles of all entries, SPLIT).

    columns, products and strides come in units. With SPLIT > 1 each program takes a part of the products and leaves
    fp32 sums in partial (SPLIT, rows, columns). ``batches``: entries of the inner batch axis; None without batch axes.
    TURNED: b's columns are contiguous, not its products. IMAGES: how many rows of a scale (images, K) a tile may need,
    1 or 2; 0 for any number, -1 for a scale (K,).
    """
    pid = tl.program_id(0)
    columns = columns * UNIT_COLUMNS
    products = products * UNIT_PRODUCTS
    a_row = a_row * UNIT_A
    b_row = b_row * UNIT_B
    y_row = y_row * UNIT_Y
    blocks_m = (rows + BLOCK_M - 1) // BLOCK_M
    blocks_n = (columns + BLOCK_N - 1) // BLOCK_N
    if residual is not None:
        residual_row = residual_row * UNIT_RESIDUAL
    if batches is not None:
        outer = pid // (blocks_m * blocks_n) // batches
        inner = pid // (blocks_m * blocks_n) % batches
        pid = pid % (blocks_m * blocks_n)
        if WIDE:
            outer = outer.to(tl.int64)
            inner = inner.to(tl.int64)
        a += (outer * a_outer + inner * a_inner) * UNIT_A
        b += (outer * b_outer + inner * b_inner) * UNIT_B
        y += (outer * y_outer + inner * y_inner) * UNIT_Y
        if residual is not None:
            residual += (outer * residual_outer + inner * residual_inner) * UNIT_RESIDUAL
    if GROUP_M == 1:
        block_m = pid // blocks_n
        block_n = pid % blocks_n
    else:
        # Columns of GROUP_M tiles: programs that run together share operands in the second-level cache.
        first = pid // (GROUP_M * blocks_n) * GROUP_M
        high = tl.minimum(blocks_m - first, GROUP_M)
        block_m = first + pid % (GROUP_M * blocks_n) % high
        block_n = pid % (GROUP_M * blocks_n) // high
    m = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.arange(0, BLOCK_K)
    # Rows (and columns) beyond the end repeat the last one; they are not stored.
    row = tl.minimum(m, rows - 1)
    last = tl.minimum(n, columns - 1)
    if WIDE:
        row = row.to(tl.int64)
        last = last.to(tl.int64)
    from_a = (row * a_row)[:, None] + j[None, :]
    if TURNED:
        from_b = (j.to(tl.int64) * b_row if WIDE else j * b_row)[:, None] + n[None, :]
    else:
        from_b = (last * b_row)[None, :] + j[:, None]
    steps = (products + BLOCK_K - 1) // BLOCK_K
    if SPLIT == 1:
        start = 0
        end = steps
    else:
        part = (steps + SPLIT - 1) // SPLIT
        start = tl.program_id(1) * part
        end = tl.minimum(start + part, steps)
    if IMAGES > 0:
        image = block_m * BLOCK_M // rows_per_image
        next_image = tl.minimum(image + 1, (rows - 1) // rows_per_image)
        in_first = (m < (image + 1) * rows_per_image)[:, None]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in tl.range(start, end):
        at = step * BLOCK_K
        k = at + j
        if EVEN_K:  # noqa: SIM108 - Triton's own branch, without the mask
            left = tl.load(a + at + from_a)
        else:
            left = tl.load(a + at + from_a, mask=(k < products)[None, :], other=0.0)
        if TURNED:
            b_at = at.to(tl.int64) * b_row if WIDE else at * b_row
            inside = (n < columns)[None, :] if EVEN_K else (n < columns)[None, :] & (k < products)[:, None]
            right = tl.load(b + b_at + from_b, mask=inside, other=0.0)
        elif EVEN_K:
            right = tl.load(b + at + from_b)
        else:
            right = tl.load(b + at + from_b, mask=(k < products)[:, None], other=0.0)
        if PROLOGUE:
            value = left.to(tl.float32)
            known = k < products
            if scale is not None:
                if IMAGES == -1:
                    value *= tl.load(scale + k, mask=known, other=0.0).to(tl.float32)[None, :]
                elif IMAGES == 0:
                    there = (row // rows_per_image * scale_row)[:, None] + k[None, :]
                    value *= tl.load(scale + there, mask=known[None, :], other=0.0).to(tl.float32)
                else:
                    factor = tl.load(scale + image * scale_row + k, mask=known, other=0.0).to(tl.float32)[None, :]
                    if IMAGES == 2:
                        other = tl.load(scale + next_image * scale_row + k, mask=known, other=0.0).to(tl.float32)
                        factor = tl.where(in_first, factor, other[None, :])
                    value *= factor
            if shift is not None:
                value += tl.load(shift + k, mask=known, other=0.0).to(tl.float32)[None, :]
            value = activate(value, BEFORE, BEFORE_A, BEFORE_B)
            if not EVEN_K:
                value = tl.where(known[None, :], value, 0.0)
            left = value.to(a.dtype.element_ty)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    if SPLIT > 1:
        place = (tl.program_id(1).to(tl.int64) * rows + m) * columns
        inside = (m < rows)[:, None] & (n < columns)[None, :]
        tl.store(partial + place[:, None] + n[None, :], total, mask=inside)
    else:
        _finish(
            total,
            m,
            n,
            rows,
            columns,
            bias,
            residual,
            y,
            y_row,
            residual_row,
            WIDE,
            ACT,
            ACT_A,
            ACT_B,
            AFTER,
            AFTER_A,
            AFTER_B,
        )


@triton.jit
def gemm_sum(
    partial,
    bias,
    residual,
    y,
    rows,
    columns,
    y_row,
    residual_row,
    UNIT_COLUMNS: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT_RESIDUAL: tl.constexpr,
    WIDE: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The sums of partial (SPLIT, rows, columns), added in order, with the epilogue."""
    columns = columns * UNIT_COLUMNS
    y_row = y_row * UNIT_Y
    if residual is not None:
        residual_row = residual_row * UNIT_RESIDUAL
    blocks_n = (columns + BLOCK_N - 1) // BLOCK_N
    m = tl.program_id(0) // blocks_n * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % blocks_n * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for part in tl.static_range(SPLIT):
        place = (m.to(tl.int64) + part * rows) * columns
        total += tl.load(partial + place[:, None] + n[None, :], mask=inside, other=0.0)
    _finish(
        total,
        m,
        n,
        rows,
        columns,
        bias,
        residual,
        y,
        y_row,
        residual_row,
        WIDE,
        ACT,
        ACT_A,
        ACT_B,
        AFTER,
        AFTER_A,
        AFTER_B,
    )


@triton.jit
def _dot_row(a, a_row, row, rows, weight, k, products):
    """Products of one row of a with weights (BLOCK_N, BLOCK_K); a is loaded in their layout, without an exchange."""
    there = a + tl.minimum(row, rows - 1).to(tl.int64) * a_row
    left = tl.load(there + k[None, :], mask=(k < products)[None, :], other=0.0).to(tl.float32)
    return left * weight


@triton.jit
def _finish_row(
    product,
    row,
    rows,
    n,
    columns,
    bias,
    residual,
    y,
    y_row,
    residual_row,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
):
    """The epilogue of one row's BLOCK_N outputs."""
    inside = (n < columns) & (row < rows)
    total = tl.sum(product, axis=1)
    if bias is not None:
        total += tl.load(bias + n, mask=inside, other=0.0).to(tl.float32)
    total = activate(total, ACT, ACT_A, ACT_B)
    if residual is not None:
        total += tl.load(residual + row * residual_row + n, mask=inside, other=0.0).to(tl.float32)
    total = activate(total, AFTER, AFTER_A, AFTER_B)
    tl.store(y + row * y_row + n, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def gemv(
    a,
    b,
    bias,
    residual,
    y,
    rows,
    columns,
    products,
    a_row,
    b_row,
    y_row,
    residual_row,
    UNIT_COLUMNS: tl.constexpr,
    UNIT_PRODUCTS: tl.constexpr,
    UNIT_A: tl.constexpr,
    UNIT_B: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT_RESIDUAL: tl.constexpr,
    ACT: tl.constexpr,
    ACT_A: tl.constexpr,
    ACT_B: tl.constexpr,
    AFTER: tl.constexpr,
    AFTER_A: tl.constexpr,
    AFTER_B: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """BLOCK_N columns of ROWS rows, 1, 2 or 4: as fast as b can be read. Programs: (columns, rows)."""
    columns = columns * UNIT_COLUMNS
    products = products * UNIT_PRODUCTS
    a_row = a_row * UNIT_A
    b_row = b_row * UNIT_B
    y_row = y_row * UNIT_Y
    if residual is not None:
        residual_row = residual_row * UNIT_RESIDUAL
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.program_id(1) * ROWS
    from_b = b + tl.minimum(n, columns - 1).to(tl.int64)[:, None] * b_row
    j = tl.arange(0, BLOCK_K)
    sum0 = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    if ROWS > 1:
        sum1 = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    if ROWS > 2:
        sum2 = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
        sum3 = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for at in tl.range(0, products, BLOCK_K):
        k = at + j
        weight = tl.load(from_b + k[None, :], mask=(k < products)[None, :], other=0.0).to(tl.float32)
        sum0 += _dot_row(a, a_row, row, rows, weight, k, products)
        if ROWS > 1:
            sum1 += _dot_row(a, a_row, row + 1, rows, weight, k, products)
        if ROWS > 2:
            sum2 += _dot_row(a, a_row, row + 2, rows, weight, k, products)
            sum3 += _dot_row(a, a_row, row + 3, rows, weight, k, products)
    for each in tl.static_range(ROWS):
        if each == 0:
            product = sum0
        elif each == 1:
            product = sum1
        elif each == 2:
            product = sum2
        else:
            product = sum3
        _finish_row(
            product,
            row + each,
            rows,
            n,
            columns,
            bias,
            residual,
            y,
            y_row,
            residual_row,
            ACT,
            ACT_A,
            ACT_B,
            AFTER,
            AFTER_A,
            AFTER_B,
        )


class GemmTiles:
    """Any product of groups.Gemm."""

    name = "triton gemm"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        return Support(tuple(refusals(group)))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_k: products of a step; group_m: see the kernel; precision: of products of fp32."""
        assert isinstance(group, Gemm)
        if group.a.dtype != "fp32":
            return gemm_tiles(group, target)
        found = [{**each, "precision": "ieee"} for each in gemm_tiles(group, target)]
        if not target.tf32:
            return found
        return [{**each, "precision": "tf32"} for each in gemm_tiles(group, target, tf32=True)] + found[:4]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Gemm)
        high, wide, deep = (configuration[name] for name in ("block_m", "block_n", "block_k"))
        rows, columns, products = group.y.shape[-2], group.y.shape[-1], group.a.shape[-1]
        split = configuration["split_k"]
        prologue, epilogue = group.prologue or Prologue(), group.epilogue
        per_image = prologue.scale is not None and len(prologue.scale.shape) == 2
        turned = group.b.strides[-1] != 1 and products != 1
        sizes, units = in_units(group, turned)
        partial = Scratch(Buffer(f"{group.name} partial sums", "arena", "fp32", split * rows * columns))
        operands: dict[str, Argument | View | None] = {
            "a": group.a,
            "b": group.b,
            "scale": prologue.scale,
            "shift": prologue.shift,
            "bias": epilogue.bias,
            "residual": epilogue.residual,
            "y": group.y,
            "partial": None,
            "rows": Scalar("i32", rows),
            "scale_row": Scalar("i32", prologue.scale.strides[0]) if prologue.scale and per_image else None,
            "rows_per_image": Scalar("i32", group.rows_per_image) if per_image else None,
            **sizes,
        }
        finish = {**units, **epilogue_constants(group)}
        images = -1
        if per_image:
            images = 1 if group.rows_per_image % high == 0 else 2 if group.rows_per_image >= high else 0
        constants = {
            **finish,
            "EVEN_K": products % deep == 0,
            "TURNED": turned,
            "PROLOGUE": group.prologue is not None,
            "IMAGES": images,
            **activation_constants("BEFORE", prologue.act),
            "PRECISION": configuration.get("precision", "ieee"),
            "SPLIT": split,
            "BLOCK_M": high,
            "BLOCK_N": wide,
            "BLOCK_K": deep,
            "GROUP_M": configuration["group_m"],
        }
        tiles = -(-rows // high) * -(-columns // wide) * math.prod(group.y.shape[:-2])
        without = {"bias": None, "residual": None, "y": None, "partial": partial}
        first = operands | (without if split > 1 else {})
        warps, stages = configuration["num_warps"], configuration["num_stages"]
        launch = launch_of(gemm, (tiles, split, 1), first, constants, warps, stages)
        if split == 1:
            return [launch]
        high, wide = (16, 64) if columns >= 64 else (32, 32)
        tiles = -(-rows // high) * -(-columns // wide)
        sums = {name: value for name, value in finish.items() if name in gemm_sum.arg_names}
        sums |= {"SPLIT": split, "BLOCK_M": high, "BLOCK_N": wide}
        return [launch, launch_of(gemm_sum, (tiles, 1, 1), operands | {"partial": partial}, sums, 4)]


class FewRows:
    """Up to eight rows: no tensor cores, all the memory's bandwidth."""

    name = "triton gemv"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        reasons = refusals(group)
        if not reasons and isinstance(group, Gemm):
            if len(group.y.shape) != 2:
                reasons.append(f"batch axes {group.y.shape[:-2]}; wanted none")
            if group.y.shape[-2] > _FEW:
                reasons.append(f"{group.y.shape[-2]} rows; at most {_FEW}")
            if group.b.strides[-1] != 1 and group.b.shape[-1] != 1:
                reasons.append("b: products are not next to each other")
            if group.prologue is not None:
                reasons.append("a prologue; wanted none")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_n: outputs of a program; block_k: products of a step; rows: of a program."""
        assert isinstance(group, Gemm)
        return gemv_tiles(group, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Gemm)
        rows, columns = group.y.shape
        sizes, units = in_units(group, False)
        operands: dict[str, Argument | View | None] = {
            "a": group.a,
            "b": group.b,
            "bias": group.epilogue.bias,
            "residual": group.epilogue.residual,
            "y": group.y,
            "rows": Scalar("i32", rows),
            **sizes,
        }
        constants = {
            name: value for name, value in {**units, **epilogue_constants(group)}.items() if name in gemv.arg_names
        }
        constants |= {
            "ROWS": configuration["rows"],
            "BLOCK_N": configuration["block_n"],
            "BLOCK_K": configuration["block_k"],
        }
        grid = (-(-columns // configuration["block_n"]), -(-rows // configuration["rows"]), 1)
        return [launch_of(gemv, grid, operands, constants, configuration["num_warps"])]


def refusals(group: Group) -> list[str]:
    """Why no kernel here can compute ``group``."""
    if not isinstance(group, Gemm):
        return [f"{type(group).__name__} is no matrix product"]
    reasons = []
    residual, prologue = group.epilogue.residual, group.prologue or Prologue()
    for name, view in {"a": group.a, "b": group.b, "y": group.y, "residual": residual}.items():
        if view is None:
            continue
        if view.dtype not in _FLOATS:
            reasons.append(f"{name}: {view.dtype}; wanted {', '.join(_FLOATS)}")
        if view.shape[:-2] != group.y.shape[:-2]:
            reasons.append(f"{name}: batch axes {view.shape[:-2]}; wanted {group.y.shape[:-2]}, as y has")
        if name == "b":
            if all(n != 1 and s != 1 for n, s in zip(view.shape[-2:], view.strides[-2:], strict=True)):
                reasons.append(f"b: strides {view.strides}; wanted one of the last two axes contiguous")
        elif view.strides[-1] != 1 and view.shape[-1] != 1:
            reasons.append(f"{name}: last axis of stride {view.strides[-1]}; wanted 1")
        if any(stride < 0 for stride in view.strides):
            reasons.append(f"{name}: negative strides {view.strides}")
    if group.a.dtype != group.b.dtype:
        reasons.append(f"a is {group.a.dtype}, b is {group.b.dtype}; wanted the same")
    if len(group.y.shape) > 4:
        reasons.append(f"{len(group.y.shape) - 2} batch axes; at most 2")
    for vector in (prologue.scale, prologue.shift, group.epilogue.bias):
        if vector is not None and vector.strides[-1] != 1 and vector.shape[-1] != 1:
            reasons.append(f"a vector of stride {vector.strides[-1]}; wanted 1")
    if prologue.scale is not None and len(prologue.scale.shape) == 2 and len(group.y.shape) > 2:
        reasons.append("a scale of each image with batch axes; wanted either")
    return reasons


def in_units(group: Gemm, turned: bool) -> tuple[dict[str, Argument | None], dict[str, int]]:
    """Sizes and strides as arguments, and the units in which they count."""
    b_row = group.b.strides[-1 if turned else -2]
    sizes: dict[str, Argument | None] = {}
    units = {}
    plain = {"columns": group.y.shape[-1], "products": group.a.shape[-1]}
    for name, size in plain.items():
        unit = math.gcd(size, 16)
        sizes[name], units[f"UNIT_{name.upper()}"] = Scalar("i32", size // unit), unit
    batch = group.y.shape[:-2]
    sizes["batches"] = Scalar("i32", batch[-1]) if batch else None
    for name, view in {"a": group.a, "b": group.b, "y": group.y, "residual": group.epilogue.residual}.items():
        ends = ("row", "outer", "inner")
        if view is None:
            sizes |= {f"{name}_{end}": None for end in ends}
            units[f"UNIT_{name.upper()}"] = 1
            continue
        outer, inner = (0, 0, *view.strides[:-2])[-2:]
        strides = (b_row if name == "b" else view.strides[-2], outer, inner)
        unit = math.gcd(*strides, 16)
        units[f"UNIT_{name.upper()}"] = unit
        for end, stride in zip(ends, strides, strict=True):
            sizes[f"{name}_{end}"] = Scalar("i32", stride // unit) if end == "row" or batch else None
    return sizes, units


def epilogue_constants(group: Gemm) -> dict[str, Any]:
    """The constants of ``_finish``."""
    residual = group.epilogue.residual
    views = [group.a, group.b, group.y] + ([residual] if residual else [])
    return {
        "WIDE": any(sum(n * s for n, s in zip(v.shape, v.strides, strict=True)) >= 1 << 31 for v in views),
        **activation_constants("ACT", group.epilogue.act),
        **activation_constants("AFTER", group.epilogue.act_after),
    }


TACTICS = (GemmTiles(), FewRows())
