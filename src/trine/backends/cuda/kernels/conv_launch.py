"""The tactic for every 2-D convolution, by conv.py's kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trine.backends.cuda.groups import Buffer, Conv, Group, Prologue, View
from trine.backends.cuda.kernels.conv import conv, conv_sum
from trine.backends.cuda.kernels.conv_tiles import conv_tiles
from trine.backends.cuda.kernels.operands import activation_constants, launch_of, with_precision
from trine.backends.cuda.tactic import Argument, Launch, Scalar, Scratch
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "ImplicitGemmConv"]

_FLOATS = ("fp16", "bf16", "fp32")


class ImplicitGemmConv:
    """Any 2-D convolution of channels-last images, with groups too."""

    name = "triton implicit gemm"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Conv):
            return Support((f"{type(group).__name__} is no convolution",))
        reasons = []
        for name, view in {"x": group.x, "y": group.y, "w": group.w, "residual": group.epilogue.residual}.items():
            if view is None:
                continue
            if view.strides[-1] != 1 and view.shape[-1] != 1:
                reasons.append(f"{name}: channels {view.strides[-1]} elements apart; wanted 1")
            if view.dtype not in _FLOATS:
                reasons.append(f"{name}: {view.dtype}; wanted {', '.join(_FLOATS)}")
        if group.x.dtype != group.w.dtype:
            reasons.append(f"x is {group.x.dtype}, w is {group.w.dtype}; wanted the same")
        if not group.w.contiguous:
            reasons.append(f"w: strides {group.w.strides}; wanted contiguous (K, R, S, C / groups)")
        if group.w.elements >= 1 << 31:
            reasons.append(f"w: {group.w.elements} elements; wanted fewer than 2**31")
        if math.prod(group.y.shape[:3]) >= 1 << 31:
            reasons.append(f"y: {group.y.shape[:3]} are 2**31 pixels or more")
        prologue = group.prologue
        if prologue is not None and group.groups != 1:
            reasons.append(f"a prologue with {group.groups} groups; wanted one group")
        if prologue is not None and any(v is not None and v.strides[-1] != 1 for v in (prologue.scale, prologue.shift)):
            reasons.append("prologue: channels are not next to each other")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_m: pixels; block_n: channels; block_k: products of a step; group_m: see the kernel;
        precision: of products of fp32."""
        assert isinstance(group, Conv)
        return with_precision(conv_tiles(group, target), group.x.dtype, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Conv)
        images, p, q, channels = group.y.shape
        rows = images * p * q
        outputs, r, s, c = group.w.shape
        k = outputs // group.groups
        split = configuration["split_k"]
        prologue, epilogue = group.prologue or Prologue(), group.epilogue
        partial = Scratch(Buffer(f"{group.name} partial sums", "arena", "fp32", split * rows * channels))
        operands: dict[str, Argument | View | None] = {
            "x": group.x,
            "w": group.w,
            "scale": prologue.scale,
            "shift": prologue.shift,
            "bias": epilogue.bias,
            "residual": epilogue.residual,
            "y": group.y,
            "partial": None,
            "rows": Scalar("i32", rows),
        }
        finish = {"P": p, "Q": q, "CHANNELS": channels, "SPLIT": split, **_finish_constants(group)}
        constants = {
            **finish,
            "H": group.x.shape[1],
            "W": group.x.shape[2],
            "C": c,
            "K": k,
            "R": r,
            "S": s,
            **dict(zip(("STRIDE_H", "STRIDE_W"), group.stride, strict=True)),
            "PAD_H": group.pads[0],
            "PAD_W": group.pads[1],
            **dict(zip(("DILATION_H", "DILATION_W"), group.dilation, strict=True)),
            "PADDED": any(group.pads),
            "PROLOGUE": group.prologue is not None,
            "SCALE_N": prologue.scale.strides[0] if prologue.scale and len(prologue.scale.shape) == 2 else 0,
            **dict(zip(("X_N", "X_H", "X_W"), group.x.strides[:3], strict=True)),
            **activation_constants("BEFORE", prologue.act, group.x.dtype),
            "PRECISION": configuration.get("precision", "ieee"),
            "FLAT": c % configuration["block_k"] != 0,
            "BLOCK_M": configuration["block_m"],
            "BLOCK_N": configuration["block_n"],
            "BLOCK_K": configuration["block_k"],
            "GROUP_M": configuration["group_m"],
        }
        tiles = -(-rows // configuration["block_m"]) * -(-k // configuration["block_n"])
        first = operands | ({} if split == 1 else {"bias": None, "residual": None, "y": None, "partial": partial})
        grid = (tiles, group.groups, split)
        products = launch_of(conv, grid, first, constants, configuration["num_warps"], configuration["num_stages"])
        if split == 1:
            return [products]
        high, wide = (16, 64) if channels >= 64 else (32, 32)
        tiles = -(-rows // high) * -(-channels // wide)
        sums = finish | {"BLOCK_M": high, "BLOCK_N": wide}
        return [products, launch_of(conv_sum, (tiles, 1, 1), operands | {"partial": partial}, sums, 4)]


def _finish_constants(group: Conv) -> dict[str, Any]:
    """The constants of the epilogue."""
    residual = group.epilogue.residual
    views = [group.x, group.y] + ([residual] if residual else [])
    return {
        **dict(zip(("Y_N", "Y_H", "Y_W"), group.y.strides[:3], strict=True)),
        **dict(zip(("RES_N", "RES_H", "RES_W"), residual.strides[:3] if residual else (0, 0, 0), strict=True)),
        "WIDE": any(sum(n * s for n, s in zip(v.shape, v.strides, strict=True)) >= 1 << 31 for v in views),
        **activation_constants("ACT", group.epilogue.act, group.y.dtype),
        **activation_constants("AFTER", group.epilogue.act_after, group.y.dtype),
    }


TACTICS = (ImplicitGemmConv(),)
