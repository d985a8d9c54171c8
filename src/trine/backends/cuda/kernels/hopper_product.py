# ruff: noqa: N803, SIM113 - a kernel's constants are capitals, and it has no enumerate
"""Products for Hopper, of matrices or under the filters of a convolution: the tensor memory accelerator fetches tiles
(im2col loads the pixels under a filter element), one warp asks for them, and two warp groups multiply.

Written in Gluon, which names every buffer and barrier. Triton 3.8 or newer compiles it; no GPU is needed for that.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from trine.backends.cuda.kernels.activations import activate

__all__ = ["COMPILES", "hopper_product"]

COMPILES = hasattr(tma, "async_load_im2col")  # whether the installed Triton knows these loads


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
    columns,
    steps,
    p,
    q,
    channels,
    filter_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    RESIDUAL: gl.constexpr,
    TOGETHER: gl.constexpr,
    HELD: gl.constexpr,
    STAGES: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr,
    MATRIX: gl.constexpr,
):
    """One warp: fetches the operands of every tile of this program, in order, as buffers become free."""
    parts: gl.constexpr = 2 if TOGETHER else 1
    blocks_n = (columns + BLOCK_N - 1) // BLOCK_N
    tile_m: gl.constexpr = BLOCK_M * parts
    size_a: gl.constexpr = x.block_type.nbytes
    size_b: gl.constexpr = w.block_type.nbytes
    tiles = (rows + tile_m - 1) // tile_m * blocks_n
    if HELD > 0:
        mbarrier.expect(weights_full, HELD * size_b)
        for step in range(HELD):
            first_k = gl.program_id(0) % blocks_n * BLOCK_N
            tma.async_load(w, [first_k, step * BLOCK_K], weights_full, b.index(step))
    count = 0
    turn = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        first = tile // blocks_n * tile_m
        first_k = tile % blocks_n * BLOCK_N
        n = first // (p * q)
        h = first // q % p * stride_h - pad_h
        v = first % q * stride_w - pad_w
        other = first + BLOCK_M
        other_n = other // (p * q)
        other_h = other // q % p * stride_h - pad_h
        other_v = other % q * stride_w - pad_w
        r = 0
        s = 0
        c = 0
        for step in range(steps):
            slot = count % STAGES
            mbarrier.wait(empty.index(slot), (count // STAGES & 1) ^ 1)
            ready = full.index(slot)
            mbarrier.expect(ready, parts * size_a + (0 if HELD > 0 else size_b))
            if MATRIX:
                tma.async_load(x, [first, step * BLOCK_K], ready, a.index(slot * parts))
                if TOGETHER:
                    tma.async_load(x, [other, step * BLOCK_K], ready, a.index(slot * parts + 1))
            else:
                offsets = [gl.to_tensor(r).to(gl.int16), gl.to_tensor(s).to(gl.int16)]
                tma.async_load_im2col(x, [n, h, v, c], offsets, ready, a.index(slot * parts))
                if TOGETHER:
                    tma.async_load_im2col(x, [other_n, other_h, other_v, c], offsets, ready, a.index(slot * parts + 1))
                # The next channels, or else the next filter element.
                c += BLOCK_K
                s = gl.where(c == channels, s + dilation_w, s)
                c = gl.where(c == channels, 0, c)
                r = gl.where(s == filter_w * dilation_w, r + dilation_h, r)
                s = gl.where(s == filter_w * dilation_w, 0, s)
            if HELD == 0:
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
    statistics,
    sums,
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
    order,
    rows,
    columns,
    steps,
    ACT: gl.constexpr,
    ACT_A: gl.constexpr,
    ACT_B: gl.constexpr,
    AFTER: gl.constexpr,
    AFTER_A: gl.constexpr,
    AFTER_B: gl.constexpr,
    RESIDUAL: gl.constexpr,
    TOGETHER: gl.constexpr,
    HELD: gl.constexpr,
    STAGES: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
):
    """One warp group: BLOCK_M x BLOCK_N sums of each tile that it takes, the epilogue, and the store."""
    parts: gl.constexpr = 2 if TOGETHER else 1
    blocks_n = (columns + BLOCK_N - 1) // BLOCK_N
    tile_m: gl.constexpr = BLOCK_M * parts
    layout: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_N, 16]
    )
    tiles = (rows + tile_m - 1) // tile_m * blocks_n
    mine = staged.index(which)
    if HELD > 0:
        mbarrier.wait(weights_full, 0)
    half: gl.constexpr = which if TOGETHER else 0
    skipped = 0 if TOGETHER else steps
    # Together, or tiles in turn: while one group finishes its tile, the other has the tensor cores.
    start = gl.program_id(0) + (0 if TOGETHER else which) * gl.num_programs(0)
    hop = (1 if TOGETHER else 2) * gl.num_programs(0)
    count = which * skipped
    turn = 0
    for tile in range(start, tiles, hop):
        if not TOGETHER:
            # A parity tells neighbouring rounds of the buffers apart, no more: before this tile's steps, the other
            # group has to be through with those of the tile before.
            mbarrier.wait(order.index(which), (turn & 1) ^ (1 - which))
        if statistics is not None:
            # Two numbers of each row, on their way while the products are summed.
            m = tile // blocks_n * tile_m + half * BLOCK_M + gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, layout))
            mean = gl.load(statistics + 2 * m, mask=m < rows, other=0.0)
            rstd = gl.load(statistics + 2 * m + 1, mask=m < rows, other=0.0)
        total = gl.zeros((BLOCK_M, BLOCK_N), gl.float32, layout=layout)
        before = 0
        for step in range(steps):
            slot = count % STAGES
            mbarrier.wait(full.index(slot), count // STAGES & 1)
            weights = b.index(step if HELD > 0 else slot).permute((1, 0))
            total = warpgroup_mma(a.index(slot * parts + half), weights, total, use_acc=step > 0, is_async=True)
            # The product before this one is complete: its buffers are free.
            total = warpgroup_mma_wait(1, deps=(total,))
            mbarrier.arrive(empty.index(before), count=1, pred=step > 0)
            before = slot
            count += 1
        if not TOGETHER:
            mbarrier.arrive(order.index(1 - which), count=1)
        total = warpgroup_mma_wait(0, deps=(total,))
        mbarrier.arrive(empty.index(before), count=1)
        count += skipped
        first = tile // blocks_n * tile_m + half * BLOCK_M
        first_k = tile % blocks_n * BLOCK_N
        if statistics is not None:
            k = first_k + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, layout))
            total -= mean[:, None] * gl.load(sums + k, mask=k < columns, other=0.0)[None, :]
            total *= rstd[:, None]
        if bias is not None:
            k = first_k + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, layout))
            total += gl.load(bias + k, mask=k < columns, other=0.0)[None, :]
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
def hopper_product(
    x,
    w,
    residual,
    statistics,
    sums,
    bias,
    y,
    rows,
    columns,
    steps,
    p,
    q,
    channels,
    filter_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    ACT: gl.constexpr,
    ACT_A: gl.constexpr,
    ACT_B: gl.constexpr,
    AFTER: gl.constexpr,
    AFTER_A: gl.constexpr,
    AFTER_B: gl.constexpr,
    RESIDUAL: gl.constexpr,
    TOGETHER: gl.constexpr,
    HELD: gl.constexpr,
    STAGES: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr,
    MATRIX: gl.constexpr,
):
    """Tiles of output pixels (``rows`` = N * p * q) and channels (``columns``); each program takes every
    num_programs-th.

    x: im2col descriptor of (N, H, W, channels), tiles BLOCK_M x BLOCK_K, or where MATRIX, a plain one of (rows, any);
    w: of (columns, R * filter_w * channels), BLOCK_N x BLOCK_K; residual and y: of (rows, columns), BLOCK_M x BLOCK_N.
    statistics, sums: where given, of a matrix's rows and of w's, see groups.Normal.
    steps: how often BLOCK_K fits into the products, rounded up. TOGETHER: both warp groups work on one tile of
    2 * BLOCK_M rows and share its weights; otherwise each has tiles of its own, in turn. HELD: 0, or equal to steps: a
    program's weights stay in shared memory, as its channels are the same for all of its tiles.

    Sizes are arguments, so that few kernels do for all layers of all networks.
    """
    parts: gl.constexpr = 2 if TOGETHER else 1
    a = gl.allocate_shared_memory(x.dtype, [STAGES * parts, BLOCK_M, BLOCK_K], x.layout)
    b = gl.allocate_shared_memory(w.dtype, [HELD if HELD > 0 else STAGES, BLOCK_N, BLOCK_K], w.layout)
    staged = gl.allocate_shared_memory(y.dtype, [2, BLOCK_M, BLOCK_N], y.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    weights_full = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    staged_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    staged_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=parts)
    order = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2):
        mbarrier.init(order.index(i), count=1)
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
                    statistics,
                    sums,
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
                    order,
                    rows,
                    columns,
                    steps,
                    ACT,
                    ACT_A,
                    ACT_B,
                    AFTER,
                    AFTER_A,
                    AFTER_B,
                    RESIDUAL,
                    TOGETHER,
                    HELD,
                    STAGES,
                    BLOCK_M,
                    BLOCK_N,
                ),
            ),
            (
                _consume,
                (
                    1,
                    statistics,
                    sums,
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
                    order,
                    rows,
                    columns,
                    steps,
                    ACT,
                    ACT_A,
                    ACT_B,
                    AFTER,
                    AFTER_A,
                    AFTER_B,
                    RESIDUAL,
                    TOGETHER,
                    HELD,
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
                    columns,
                    steps,
                    p,
                    q,
                    channels,
                    filter_w,
                    stride_h,
                    stride_w,
                    pad_h,
                    pad_w,
                    dilation_h,
                    dilation_w,
                    RESIDUAL,
                    TOGETHER,
                    HELD,
                    STAGES,
                    BLOCK_M,
                    BLOCK_N,
                    BLOCK_K,
                    MATRIX,
                ),
            ),
        ],
        [4, 1],
        [240, 24],
    )
