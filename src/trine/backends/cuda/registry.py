"""Every CUDA tactic, in the order in which they are asked."""

from __future__ import annotations

import functools

from trine.backends.cuda.tactic import CudaTactic

__all__ = ["all_tactics"]


@functools.cache
def all_tactics(compiled_elsewhere: bool = False) -> tuple[CudaTactic, ...]:
    """Imports Triton. ``compiled_elsewhere``: whether kernels may be at hand that this Triton cannot compile."""
    from trine.backends.cuda.kernels import (
        attention,
        attention_at_once,
        conv_gemm,
        conv_gluon,
        conv_launch,
        depthwise,
        gather_rows,
        gemm_gluon,
        gemm_launch,
        gemm_tma,
        gemv,
        layer_norm,
        layer_norm_long,
        pointwise,
        pool,
        recurrence,
        reduce,
        row_statistics,
        softmax,
        squeeze_excite,
        squeeze_excite_blocks,
    )

    hopper: tuple[CudaTactic, ...] = (*gemm_gluon.TACTICS, *conv_gluon.TACTICS)
    if compiled_elsewhere:
        hopper = (gemm_gluon.HopperGemm(True), conv_gluon.HopperConv(True))
    # Where nothing is known of a group, and there is no GPU to ask, the first that can is taken. On an H200 gemv was
    # fastest for 8 of the 9 products of few rows, and gemm_tma faster than gemm_launch for 41 of 65.
    modules = (
        gemm_tma,
        gemm_launch,
        conv_launch,
        conv_gemm,
        depthwise,
        attention,
        attention_at_once,
        layer_norm,
        layer_norm_long,
        row_statistics,
        softmax,
        squeeze_excite,
        squeeze_excite_blocks,
        recurrence,
        pool,
        reduce,
        gather_rows,
        pointwise,
    )
    return (*gemv.TACTICS, *hopper, *(tactic for module in modules for tactic in module.TACTICS))
