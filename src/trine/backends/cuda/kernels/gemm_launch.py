"""The tactic for every matrix product: tiles on tensor cores, by gemm.py's kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trine.backends.cuda.groups import Buffer, Gemm, Group, Prologue, View
from trine.backends.cuda.kernels.gemm import gemm, gemm_sum
from trine.backends.cuda.kernels.gemm_operands import epilogue_constants, in_units, refusals
from trine.backends.cuda.kernels.gemm_tiles import gemm_tiles
from trine.backends.cuda.kernels.operands import activation_constants, launch_of
from trine.backends.cuda.tactic import Argument, Launch, Scalar, Scratch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "GemmTiles"]


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
            "statistics": None if group.normal is None else group.normal.statistics,
            "sums": None if group.normal is None else group.normal.sums,
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
            **activation_constants("BEFORE", prologue.act, group.a.dtype),
            "PRECISION": configuration.get("precision", "ieee"),
            "SPLIT": split,
            "BLOCK_M": high,
            "BLOCK_N": wide,
            "BLOCK_K": deep,
            "GROUP_M": configuration["group_m"],
        }
        tiles = -(-rows // high) * -(-columns // wide) * math.prod(group.y.shape[:-2])
        without = dict.fromkeys(("statistics", "sums", "bias", "residual", "y")) | {"partial": partial}
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


TACTICS = (GemmTiles(),)
