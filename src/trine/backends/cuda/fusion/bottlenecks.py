"""The expansion of a bottleneck is computed with the convolution before it, where memory is what both wait for."""

from __future__ import annotations

import math

from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import Conv, ConvGemm, Epilogue, Gemm
from trine.backends.cuda.lowering.views import covers_buffer

__all__ = ["fuse_bottlenecks"]

_WIDEST = 64  # channels of a pixel; with more, Hopper's products are faster apart
_FEWEST_PIXELS = 1 << 16  # of all images: below, tiles are too few to overlap reading with computing


def fuse_bottlenecks(program: Program) -> None:
    """Before: Conv 3x3 -> t (N, P, Q, 64); Gemm(t) -> y (N * P * Q, 256). After: ConvGemm -> y.

    What lies between is not written and read again, and one tile multiplies while another waits for memory. Stays: t
    that others read, wide t, few pixels, 1x1 convolutions, which would be computed twice where columns are split.
    """
    for index, group in program.positions():
        if not isinstance(group, Gemm) or group.prologue is not None or len(group.y.shape) != 2:
            continue
        found = program.only_writer(group.a)
        if found is None or not program.only_reader(group.a.buffer, index):
            continue
        position, conv = found
        if isinstance(conv, Conv) and _fits(conv, group):
            program.put(position, None)
            program.put(
                index,
                ConvGemm(
                    name=f"{conv.name} + {group.name}",
                    y=group.y,
                    x=conv.x,
                    w=conv.w,
                    pixels=(conv.y.shape[1], conv.y.shape[2]),
                    stride=conv.stride,
                    pads=conv.pads,
                    dilation=conv.dilation,
                    between=conv.epilogue,
                    b=group.b,
                    epilogue=group.epilogue,
                ),
            )


def _fits(conv: Conv, gemm: Gemm) -> bool:
    between = conv.w.shape[0]
    return (
        conv.groups == 1
        and conv.prologue is None
        and conv.epilogue == Epilogue(conv.epilogue.bias, conv.epilogue.act)
        and math.prod(conv.w.shape[1:3]) > 1
        and conv.x.shape[3] % 32 == 0
        and between in (32, _WIDEST)
        and gemm.b.shape[0] % 64 == 0
        and gemm.b.shape[0] > between
        and math.prod(conv.y.shape[:3]) >= _FEWEST_PIXELS
        and conv.y.dtype in ("fp16", "bf16")
        and covers_buffer(conv.y)
        and conv.y.contiguous
        and covers_buffer(gemm.a)
        and gemm.a.contiguous
        and gemm.b.buffer.kind == "weight"
        and gemm.b.contiguous
    )
