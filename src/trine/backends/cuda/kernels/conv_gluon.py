# ruff: noqa: N803, SIM113 - a kernel's constants are capitals, and it has no enumerate
"""Convolution for Hopper: the tensor memory accelerator fetches the pixels under each filter element (im2col) and the
weights, one warp asks for them, and two warp groups multiply, each in its own time.

Written in Gluon, which names every buffer and barrier. Triton 3.8 or newer compiles it; no GPU is needed for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from trine.backends.cuda.groups import Conv, Group, View
from trine.backends.cuda.kernels.activations import activate
from trine.backends.cuda.kernels.conv_gluon_tiles import hopper_tiles
from trine.backends.cuda.kernels.operands import activation_constants
from trine.backends.cuda.tactic import Argument, KernelSource, Launch, Pointer, Scalar, TensorMap
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "HopperConv"]

_IM2COL = hasattr(tma, "async_load_im2col")


@gluon.jit
def _produce(
    x,
    w,
    residual,
    a,
    b,
    staged,
    full,
    empty,
    weights_full,
    staged_full,
    staged_empty,
    rows,
    P: gl.constexpr,
    Q: gl.constexpr,
    S: gl.constexpr,
    C: gl.constexpr,
    K: gl.constexpr,
    STEPS: gl.constexpr,
    STRIDE_H: gl.constexpr,
    STRIDE_W: gl.constexpr,
    PAD_H: gl.constexpr,
    PAD_W: gl.constexpr,
    DILATION_H: gl.constexpr,
    DILATION_W: gl.constexpr,
    RESIDUAL: gl.constexpr,
    TOGETHER: gl.constexpr,
    RESIDENT: gl.constexpr,
    STAGES: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr,
):
    """One warp: fetches the operands of every tile of this program, in order, as buffers become free."""
    parts: gl.constexpr = 2 if TOGETHER else 1
    blocks_n: gl.constexpr = (K + BLOCK_N - 1) // BLOCK_N
    blocks_c: gl.constexpr = C // BLOCK_K
    tile_m: gl.constexpr = BLOCK_M * parts
    size_a: gl.constexpr = x.block_type.nbytes
    size_b: gl.constexpr = w.block_type.nbytes
    tiles = (rows + tile_m - 1) // tile_m * blocks_n
    if RESIDENT:
        mbarrier.expect(weights_full, STEPS * size_b)
        for step in range(STEPS):
            first_k = gl.program_id(0) % blocks_n * BLOCK_N
            tma.async_load(w, [first_k, step * BLOCK_K], weights_full, b.index(step))
    count = 0
    turn = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        first = tile // blocks_n * tile_m
        first_k = tile % blocks_n * BLOCK_N
        n = first // (P * Q)
        h = first // Q % P * STRIDE_H - PAD_H
        v = first % Q * STRIDE_W - PAD_W
        other = first + BLOCK_M
        other_n = other // (P * Q)
        other_h = other // Q % P * STRIDE_H - PAD_H
        other_v = other % Q * STRIDE_W - PAD_W
        for step in range(STEPS):
            slot = count % STAGES
            mbarrier.wait(empty.index(slot), (count // STAGES & 1) ^ 1)
            ready = full.index(slot)
            mbarrier.expect(ready, parts * size_a + (0 if RESIDENT else size_b))
            rs = step // blocks_c
            r = (rs // S * DILATION_H).to(gl.int16)
            s = (rs % S * DILATION_W).to(gl.int16)
            c = step % blocks_c * BLOCK_K
            tma.async_load_im2col(x, [n, h, v, c], [r, s], ready, a.index(slot * parts))
            if TOGETHER:
                tma.async_load_im2col(x, [other_n, other_h, other_v, c], [r, s], ready, a.index(slot * parts + 1))
            if not RESIDENT:
                tma.async_load(w, [first_k, step * BLOCK_K], ready, b.index(slot))
            count += 1
        if RESIDUAL:
            # After the operands: nothing waits for it before the tile's sums are complete.
            if TOGETHER:
                for which in gl.static_range(2):
                    mbarrier.wait(staged_empty.index(which), (turn & 1) ^ 1)
                    mbarrier.expect(staged_full.index(which), residual.block_type.nbytes)
                    place = [first + which * BLOCK_M, first_k]
                    tma.async_load(residual, place, staged_full.index(which), staged.index(which))
            else:
                which = turn & 1
                mbarrier.wait(staged_empty.index(which), (turn >> 1 & 1) ^ 1)
                mbarrier.expect(staged_full.index(which), residual.block_type.nbytes)
                tma.async_load(residual, [first, first_k], staged_full.index(which), staged.index(which))
        turn += 1


@gluon.jit
def _consume(
    which: gl.constexpr,
    bias,
    y,
    a,
    b,
    staged,
    full,
    empty,
    weights_full,
    staged_full,
    staged_empty,
    rows,
    K: gl.constexpr,
    STEPS: gl.constexpr,
    ACT: gl.constexpr,
    ACT_A: gl.constexpr,
    ACT_B: gl.constexpr,
    AFTER: gl.constexpr,
    AFTER_A: gl.constexpr,
    AFTER_B: gl.constexpr,
    RESIDUAL: gl.constexpr,
    TOGETHER: gl.constexpr,
    RESIDENT: gl.constexpr,
    STAGES: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
):
    """One warp group: BLOCK_M x BLOCK_N sums of each tile that it takes, the epilogue, and the store."""
    parts: gl.constexpr = 2 if TOGETHER else 1
    blocks_n: gl.constexpr = (K + BLOCK_N - 1) // BLOCK_N
    tile_m: gl.constexpr = BLOCK_M * parts
    layout: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_N, 16]
    )
    tiles = (rows + tile_m - 1) // tile_m * blocks_n
    mine = staged.index(which)
    if RESIDENT:
        mbarrier.wait(weights_full, 0)
    half: gl.constexpr = which if TOGETHER else 0
    skipped: gl.constexpr = 0 if TOGETHER else STEPS
    # Together, or tiles in turn: while one group finishes its tile, the other has the tensor cores.
    start = gl.program_id(0) + (0 if TOGETHER else which) * gl.num_programs(0)
    hop = (1 if TOGETHER else 2) * gl.num_programs(0)
    count = which * skipped
    turn = 0
    for tile in range(start, tiles, hop):
        total = gl.zeros((BLOCK_M, BLOCK_N), gl.float32, layout=layout)
        before = 0
        for step in range(STEPS):
            slot = count % STAGES
            mbarrier.wait(full.index(slot), count // STAGES & 1)
            weights = b.index(step if RESIDENT else slot).permute((1, 0))
            total = warpgroup_mma(a.index(slot * parts + half), weights, total, use_acc=step > 0, is_async=True)
            # The product before this one is complete: its buffers are free.
            total = warpgroup_mma_wait(1, deps=(total,))
            mbarrier.arrive(empty.index(before), count=1, pred=step > 0)
            before = slot
            count += 1
        total = warpgroup_mma_wait(0, deps=(total,))
        mbarrier.arrive(empty.index(before), count=1)
        count += skipped
        first = tile // blocks_n * tile_m + half * BLOCK_M
        first_k = tile % blocks_n * BLOCK_N
        if bias is not None:
            k = first_k + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, layout))
            total += gl.load(bias + k, mask=k < K, other=0.0)[None, :]
        total = activate(total, ACT, ACT_A, ACT_B)
        if RESIDUAL:
            mbarrier.wait(staged_full.index(which), turn & 1)
            total += mine.load(layout).to(gl.float32)
        else:
            tma.store_wait(pendings=0)  # of the tile before, from the same memory
        total = activate(total, AFTER, AFTER_A, AFTER_B)
        mine.store(total.to(y.dtype))
        fence_async_shared()
        tma.async_store(y, [first, first_k], mine)
        if RESIDUAL:
            tma.store_wait(pendings=0)
            mbarrier.arrive(staged_empty.index(which), count=1)
        turn += 1
    tma.store_wait(pendings=0)


@gluon.jit
def conv_hopper(
    x,
    w,
    residual,
    bias,
    y,
    rows,
    P: gl.constexpr,
    Q: gl.constexpr,
    S: gl.constexpr,
    C: gl.constexpr,
    K: gl.constexpr,
    STEPS: gl.constexpr,
    STRIDE_H: gl.constexpr,
    STRIDE_W: gl.constexpr,
    PAD_H: gl.constexpr,
    PAD_W: gl.constexpr,
    DILATION_H: gl.constexpr,
    DILATION_W: gl.constexpr,
    ACT: gl.constexpr,
    ACT_A: gl.constexpr,
    ACT_B: gl.constexpr,
    AFTER: gl.constexpr,
    AFTER_A: gl.constexpr,
    AFTER_B: gl.constexpr,
    RESIDUAL: gl.constexpr,
    TOGETHER: gl.constexpr,
    RESIDENT: gl.constexpr,
    STAGES: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr,
):
    """Tiles of output pixels (``rows`` = N * P * Q) and channels; each program takes every num_programs-th.

    x: im2col descriptor of (N, H, W, C), tiles BLOCK_M x BLOCK_K; w: of (K, R * S * C), BLOCK_N x BLOCK_K; residual and
    y: of (rows, K), BLOCK_M x BLOCK_N. TOGETHER: both warp groups work on one tile of 2 * BLOCK_M rows and share its
    weights; otherwise each has tiles of its own, in turn. RESIDENT: a program's weights stay in shared memory: its
    channels are the same for all of its tiles. STEPS = R * S * C / BLOCK_K.
    """
    parts: gl.constexpr = 2 if TOGETHER else 1
    a = gl.allocate_shared_memory(x.dtype, [STAGES * parts, BLOCK_M, BLOCK_K], x.layout)
    b = gl.allocate_shared_memory(w.dtype, [STEPS if RESIDENT else STAGES, BLOCK_N, BLOCK_K], w.layout)
    staged = gl.allocate_shared_memory(y.dtype, [2, BLOCK_M, BLOCK_N], y.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    weights_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    staged_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    staged_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=parts)
    for i in gl.static_range(2):
        mbarrier.init(staged_full.index(i), count=1)
        mbarrier.init(staged_empty.index(i), count=1)
    mbarrier.init(weights_full, count=1)
    fence_async_shared()
    gl.warp_specialize(
        [
            (
                _consume,
                (
                    0,
                    bias,
                    y,
                    a,
                    b,
                    staged,
                    full,
                    empty,
                    weights_full,
                    staged_full,
                    staged_empty,
                    rows,
                    K,
                    STEPS,
                    ACT,
                    ACT_A,
                    ACT_B,
                    AFTER,
                    AFTER_A,
                    AFTER_B,
                    RESIDUAL,
                    TOGETHER,
                    RESIDENT,
                    STAGES,
                    BLOCK_M,
                    BLOCK_N,
                ),
            ),
            (
                _consume,
                (
                    1,
                    bias,
                    y,
                    a,
                    b,
                    staged,
                    full,
                    empty,
                    weights_full,
                    staged_full,
                    staged_empty,
                    rows,
                    K,
                    STEPS,
                    ACT,
                    ACT_A,
                    ACT_B,
                    AFTER,
                    AFTER_A,
                    AFTER_B,
                    RESIDUAL,
                    TOGETHER,
                    RESIDENT,
                    STAGES,
                    BLOCK_M,
                    BLOCK_N,
                ),
            ),
            (
                _produce,
                (
                    x,
                    w,
                    residual,
                    a,
                    b,
                    staged,
                    full,
                    empty,
                    weights_full,
                    staged_full,
                    staged_empty,
                    rows,
                    P,
                    Q,
                    S,
                    C,
                    K,
                    STEPS,
                    STRIDE_H,
                    STRIDE_W,
                    PAD_H,
                    PAD_W,
                    DILATION_H,
                    DILATION_W,
                    RESIDUAL,
                    TOGETHER,
                    RESIDENT,
                    STAGES,
                    BLOCK_M,
                    BLOCK_N,
                    BLOCK_K,
                ),
            ),
        ],
        [4, 1],
        [240, 24],
    )


class HopperConv:
    """3x3, 1x1 and other filters, strided or not, in 16 bits, of packed rows of pixels."""

    name = "gluon im2col"

    def __init__(self, compiles: bool = _IM2COL) -> None:
        """compiles: whether the kernels can be compiled here, or machine code from elsewhere is at hand."""
        self.compiles = compiles

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Conv):
            return Support((f"{type(group).__name__} is no convolution",))
        reasons = []
        if not self.compiles:
            reasons.append("the installed Triton has no im2col loads; wanted 3.8 or newer")
        if not target.hopper:
            reasons.append(f"{target.name}; wanted sm_90")
        if group.groups != 1:
            reasons.append(f"{group.groups} groups; wanted one")
        if group.prologue is not None:
            reasons.append("a prologue; pixels go from memory to the tensor cores untouched")
        for name, view in {"x": group.x, "w": group.w, "y": group.y, "residual": group.epilogue.residual}.items():
            if view is not None:
                reasons += [f"{name}: {reason}" for reason in _unfit(view, group.y.dtype)]
        for name, view in {"y": group.y, "residual": group.epilogue.residual}.items():
            if view is not None and not _packed(view):
                reasons.append(f"{name}: pixels are not evenly spaced, strides {view.strides}")
        if group.x.shape[3] % 32:
            reasons.append(f"{group.x.shape[3]} channels; wanted a multiple of 32")
        if not group.w.contiguous:
            reasons.append(f"w: strides {group.w.strides}; wanted contiguous (K, R, S, C)")
        reach = max((n - 1) * d for n, d in zip(group.w.shape[1:3], group.dilation, strict=True))
        if max(group.stride) > 8 or reach > 127 or max(group.pads) > 127:
            reasons.append(f"stride {group.stride}, reach {reach}, pads {group.pads}; wanted at most 8, 127 and 127")
        if math.prod(group.y.shape[:3]) >= 1 << 30:
            reasons.append(f"y: {group.y.shape[:3]} are 2**30 pixels or more")
        if not reasons and not self.configurations(group, target):
            reasons.append("no tile fits into shared memory")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_m: rows of a warp group; together, resident: see the kernel; stages: of the ring."""
        assert isinstance(group, Conv)
        return hopper_tiles(group, target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Conv)
        images, p, q, k = group.y.shape
        rows = images * p * q
        _, r, s, c = group.w.shape
        high, wide, deep = (configuration[name] for name in ("block_m", "block_n", "block_k"))
        residual, bias = group.epilogue.residual, group.epilogue.bias
        blocks_n = -(-k // wide)
        tiles = -(-rows // (high * (2 if configuration["together"] else 1))) * blocks_n
        programs = min(tiles, target.multiprocessors)
        if configuration["resident"]:
            programs = max(blocks_n, programs // blocks_n * blocks_n)
        filters = View(group.w.buffer, (k, r * s * c), (r * s * c, 1), group.w.offset)
        operands: dict[str, tuple[str, Argument] | None] = {
            "x": (
                _descriptor("tensordesc_im2col", group.x.dtype, high, deep, ",input_rank=4"),
                _window(group, high, deep),
            ),
            "w": (_descriptor("tensordesc", group.w.dtype, wide, deep), TensorMap(filters, (wide, deep))),
            "residual": None if residual is None else _tile(residual, high, wide),
            "bias": None if bias is None else ("*fp32", Pointer(bias)),
            "y": _tile(group.y, high, wide),
            "rows": ("i32", Scalar("i32", rows)),
        }
        constants = {
            **{name: None for name, operand in operands.items() if operand is None},
            **{"P": p, "Q": q, "S": s, "C": c, "K": k, "STEPS": r * s * c // deep},
            **{
                "STRIDE_H": group.stride[0],
                "STRIDE_W": group.stride[1],
                "PAD_H": group.pads[0],
                "PAD_W": group.pads[1],
            },
            **{"DILATION_H": group.dilation[0], "DILATION_W": group.dilation[1]},
            **activation_constants("ACT", group.epilogue.act),
            **activation_constants("AFTER", group.epilogue.act_after),
            **{"RESIDUAL": residual is not None, "STAGES": configuration["stages"]},
            **{"TOGETHER": configuration["together"], "RESIDENT": configuration["resident"]},
            **{"BLOCK_M": high, "BLOCK_N": wide, "BLOCK_K": deep},
        }
        given = {name: operand for name, operand in operands.items() if operand is not None}
        source = KernelSource(
            conv_hopper,
            {name: "constexpr" if name in constants else given[name][0] for name in conv_hopper.arg_names},
            constants,
            num_warps=4,
            divisible=("bias",) if bias is not None else (),
            # Three warp groups share 65536 registers: 240 a thread for those that multiply, 24 for the one that loads.
            options={"maxnreg": 168},
            gluon=True,
        )
        arguments = tuple(given[name][1] for name in conv_hopper.arg_names if name in given)
        return [Launch(source, (programs, 1, 1), arguments)]


def _unfit(view: View, dtype: str) -> Iterator[str]:
    """Why the tensor memory accelerator, or the tensor cores beside a ``dtype`` output, cannot have it."""
    if view.dtype not in ("fp16", "bf16") or view.dtype != dtype:
        yield f"{view.dtype} beside an output of {dtype}; wanted fp16 or bf16 everywhere"
    if view.buffer.kind not in ("arena", "weight"):
        yield f"in an {view.buffer.kind}, whose address may be odd"
    if view.strides[-1] != 1 or view.offset % 8 or any(stride % 8 for stride in view.strides[:-1]):
        yield f"strides {view.strides} from {view.offset}; wanted multiples of 16 bytes, and 1"


def _packed(view: View) -> bool:
    """Whether pixel follows pixel at one distance, through rows and images."""
    _, high, wide, _ = view.shape
    return view.strides[1] == wide * view.strides[2] and view.strides[0] == high * view.strides[1]


def _descriptor(kind: str, dtype: str, rows: int, columns: int, rank: str = "") -> str:
    """Triton's type of a descriptor whose tiles lie in shared memory with the widest swizzle that they fill."""
    layout = f"NVMMASharedLayout(swizzle_byte_width={min(128, 2 * columns)}, element_bitwidth=16, rank=2)"
    return f"{kind}<{dtype}[{rows},{columns}]{rank},{layout}>"


def _tile(view: View, rows: int, columns: int) -> tuple[str, TensorMap]:
    """A descriptor of pixels as rows of a matrix; one load or store moves 128 bytes of a row at most."""
    matrix = View(view.buffer, (math.prod(view.shape[:3]), view.shape[3]), (view.strides[2], 1), view.offset)
    return _descriptor("tensordesc", view.dtype, rows, columns), TensorMap(matrix, (rows, min(columns, 64)))


def _window(group: Conv, pixels: int, channels: int) -> TensorMap:
    """Where the filter's first element goes: from -pads, as many steps as there are outputs. Beyond x all is zero."""
    lower = (-group.pads[0], -group.pads[1])
    upper = tuple(
        (group.y.shape[axis] - 1) * group.stride[axis - 1] + 1 - group.x.shape[axis] - group.pads[axis - 1]
        for axis in (1, 2)
    )
    return TensorMap(group.x, (pixels, channels), (lower, upper, channels, pixels), (1, *group.stride, 1))


TACTICS = (HopperConv(),)
