"""Operands and the launch of hopper_product, which convolutions and matrix products share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trine.backends.cuda.groups import Epilogue, Normal, View
from trine.backends.cuda.kernels.hopper_product import hopper_product
from trine.backends.cuda.kernels.hopper_tiles import Product
from trine.backends.cuda.kernels.operands import activation_constants
from trine.backends.cuda.tactic import Argument, KernelSource, Launch, Pointer, Scalar, TensorMap
from trine.backends.cuda.target import Target

__all__ = ["NO_WINDOW", "hopper_launch", "refusals", "unfit"]

# The sizes of a product that is no convolution.
NO_WINDOW = {
    **{"p": 1, "q": 1, "channels": 1, "filter_w": 1, "stride_h": 1, "stride_w": 1},
    **{"pad_h": 0, "pad_w": 0, "dilation_h": 1, "dilation_w": 1},
}


def refusals(compiles: bool, target: Target) -> Iterator[str]:
    """Why no product at all can run this way. ``compiles``: here, or machine code from elsewhere is at hand."""
    if not compiles:
        yield "the installed Triton has no im2col loads; wanted 3.8 or newer"
    if not target.hopper:
        yield f"{target.name}; wanted sm_90"


def unfit(views: Mapping[str, View | None], bias: View | None) -> Iterator[str]:
    """Why the tensor memory accelerator and the tensor cores cannot have these operands, y among them."""
    y = views["y"]
    assert y is not None
    for name, view in views.items():
        if view is None:
            continue
        if view.dtype not in ("fp16", "bf16") or view.dtype != y.dtype:
            yield f"{name}: {view.dtype} beside an output of {y.dtype}; wanted fp16 or bf16 everywhere"
        if view.buffer.kind not in ("arena", "weight"):
            yield f"{name}: in an {view.buffer.kind}, whose address may be odd"
        steps = [stride for stride, length in zip(view.strides[:-1], view.shape[:-1], strict=True) if length > 1]
        if view.strides[-1] != 1 or view.offset % 8 or any(step <= 0 or step % 8 for step in steps):
            yield f"{name}: strides {view.strides} from {view.offset}; wanted multiples of 16 bytes, and 1"
    if bias is not None and bias.strides[-1] != 1:
        yield f"bias: {bias.strides[-1]} elements apart; wanted 1"


def hopper_launch(
    product: Product,
    configuration: Mapping[str, Any],
    target: Target,
    *,
    x: TensorMap,
    w: View,
    y: View,
    residual: View | None,
    epilogue: Epilogue,
    window: Mapping[str, int],
    normal: Normal | None = None,
) -> Launch:
    """``w``, ``y`` and ``residual`` as matrices; ``x`` as the kernel has it, for tiles of the configuration."""
    high, wide, deep = (configuration[name] for name in ("block_m", "block_n", "block_k"))
    blocks_n = -(-product.columns // wide)
    tiles = -(-product.rows // (high * (2 if configuration["together"] else 1))) * blocks_n
    programs = min(tiles, target.multiprocessors)
    if configuration["resident"]:
        programs = max(blocks_n, programs // blocks_n * blocks_n)
    vectors = {
        "statistics": None if normal is None else normal.statistics,
        "sums": None if normal is None else normal.sums,
        "bias": epilogue.bias,
    }
    x_type = ("tensordesc", "") if x.im2col is None else ("tensordesc_im2col", ",input_rank=4")
    operands: dict[str, tuple[str, Argument] | None] = {
        "x": (_descriptor(x_type[0], x.view.dtype, high, deep, x_type[1]), x),
        "w": (_descriptor("tensordesc", w.dtype, wide, deep), TensorMap(w, (wide, deep))),
        "residual": None if residual is None else _tile(residual, high, wide),
        **{name: None if view is None else ("*fp32", Pointer(view)) for name, view in vectors.items()},
        "y": _tile(y, high, wide),
    }
    steps = -(-product.products // deep)
    sizes = {"rows": product.rows, "columns": product.columns, "steps": steps}
    if x.im2col is not None:
        sizes |= window
    operands |= {name: ("i32", Scalar("i32", size)) for name, size in sizes.items()}
    constants = {
        **{name: None for name, operand in operands.items() if operand is None},
        **({} if x.im2col is not None else window),
        **activation_constants("ACT", epilogue.act, y.dtype),
        **activation_constants("AFTER", epilogue.act_after, y.dtype),
        **{"RESIDUAL": residual is not None, "STAGES": configuration["stages"], "MATRIX": x.im2col is None},
        **{"TOGETHER": configuration["together"], "HELD": steps if configuration["resident"] else 0},
        **{"BLOCK_M": high, "BLOCK_N": wide, "BLOCK_K": deep},
    }
    given = {name: operand for name, operand in operands.items() if operand is not None}
    names = hopper_product.arg_names
    source = KernelSource(
        hopper_product,
        {name: "constexpr" if name in constants else given[name][0] for name in names},
        constants,
        num_warps=4,
        divisible=tuple(name for name, view in vectors.items() if view is not None and view.offset % 4 == 0),
        # Three warp groups share 65536 registers: 240 a thread for those that multiply, 24 for the one that loads.
        options={"maxnreg": 168},
        gluon=True,
    )
    return Launch(source, (programs, 1, 1), tuple(given[name][1] for name in names if name in given))


def _descriptor(kind: str, dtype: str, rows: int, columns: int, rank: str = "") -> str:
    """Triton's type of a descriptor whose tiles lie in shared memory with the widest swizzle that they fill."""
    layout = f"NVMMASharedLayout(swizzle_byte_width={min(128, 2 * columns)}, element_bitwidth=16, rank=2)"
    return f"{kind}<{dtype}[{rows},{columns}]{rank},{layout}>"


def _tile(matrix: View, rows: int, columns: int) -> tuple[str, TensorMap]:
    """One load or store moves 128 bytes of a row at most."""
    return _descriptor("tensordesc", matrix.dtype, rows, columns), TensorMap(matrix, (rows, min(columns, 64)))
