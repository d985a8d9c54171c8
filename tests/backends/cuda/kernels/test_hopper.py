"""Products for Hopper: what their descriptors and coordinates mean, played through in NumPy, and that they compile.

There is no interpreter for Gluon: the walk below repeats the kernel's loops over tiles and steps, with im2col loads as
the CUDA driver's documentation has them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.cuda.compiling import compile_group, every_kernel
from backends.cuda.interpret import Memory
from backends.cuda.kernels.test_conv import convolution, dense

from trine.backends.cuda import reference
from trine.backends.cuda.groups import Activation, Conv, Epilogue, Gemm, Group
from trine.backends.cuda.kernels.conv_gluon import HopperConv
from trine.backends.cuda.kernels.gemm_gluon import HopperGemm
from trine.backends.cuda.tactic import Launch, Scalar, TensorMap
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TACTIC = HopperConv(compiles=True)
GEMM = HopperGemm(compiles=True)
Array = np.ndarray[Any, Any]


def im2col(x: Array, description: TensorMap, corner: tuple[int, ...], offsets: tuple[int, int]) -> Array:
    """Pixels from ``corner`` on, in the window that the corners of ``description`` leave, moved by ``offsets``."""
    assert description.im2col is not None
    assert description.steps is not None
    lower, upper, channels, pixels = description.im2col
    n, h, w, c = corner
    ends = [x.shape[axis] + upper[axis - 1] for axis in (1, 2)]
    found = np.zeros((pixels, channels), x.dtype)
    for place in range(pixels):
        row, column = h + offsets[0], w + offsets[1]
        if n < x.shape[0] and 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            found[place] = x[n, row, column, c : c + channels]
        w += description.steps[2]
        if w >= ends[1]:
            w = lower[1]
            h += description.steps[1]
        if h >= ends[0]:
            h = lower[0]
            n += 1
    return found


def walk(launch: Launch, x: Array, w: Array) -> Array:
    """The sums that the kernel's tiles get, (rows, K)."""
    k = launch.kernel.constants
    window = launch.arguments[0]
    assert isinstance(window, TensorMap)
    names = [name for name, kind in launch.kernel.signature.items() if kind != "constexpr"]
    sizes = {n: int(a.value) for n, a in zip(names, launch.arguments, strict=True) if isinstance(a, Scalar)}
    k = {**k, **sizes}
    rows = k["rows"]
    filters = w.reshape(k["columns"], -1)
    blocks_n = -(-k["columns"] // k["BLOCK_N"])
    parts = 2 if k["TOGETHER"] else 1
    tile_m = k["BLOCK_M"] * parts
    tiles = -(-rows // tile_m) * blocks_n
    total = np.full((tiles // blocks_n * tile_m, blocks_n * k["BLOCK_N"]), np.nan, np.float32)
    assert not k["HELD"] or launch.grid[0] % blocks_n == 0
    for tile in itertools.chain(*(range(program, tiles, launch.grid[0]) for program in range(launch.grid[0]))):
        first_k = tile % blocks_n * k["BLOCK_N"]
        for part in range(parts):
            first = tile // blocks_n * tile_m + part * k["BLOCK_M"]
            n, h, v = first // (k["p"] * k["q"]), first // k["q"] % k["p"], first % k["q"]
            sums = np.zeros((k["BLOCK_M"], k["BLOCK_N"]), np.float32)
            for step in range(k["steps"]):
                if k["MATRIX"]:
                    a = x[first : first + k["BLOCK_M"], step * k["BLOCK_K"] : (step + 1) * k["BLOCK_K"]]
                else:
                    rs, c = divmod(step, k["channels"] // k["BLOCK_K"])
                    offsets = (rs // k["filter_w"] * k["dilation_h"], rs % k["filter_w"] * k["dilation_w"])
                    corner = (n, h * k["stride_h"] - k["pad_h"], v * k["stride_w"] - k["pad_w"], c * k["BLOCK_K"])
                    a = im2col(x, window, corner, offsets)
                b = filters[first_k : first_k + k["BLOCK_N"], step * k["BLOCK_K"] : (step + 1) * k["BLOCK_K"]]
                sums[: len(a), : len(b)] += a.astype(np.float32) @ b.astype(np.float32).T
            total[first : first + k["BLOCK_M"], first_k : first_k + k["BLOCK_N"]] = sums
    return total[:rows, : k["columns"]]


def tile(m: int, n: int, k: int, together: bool, resident: bool = False) -> dict[str, Any]:
    return {"block_m": m, "block_n": n, "block_k": k, "together": together, "resident": resident, "stages": 3}


ONES = (1, 1, 1, 1)
GROUPS = {
    "3x3": (convolution((3, 7, 9, 64), (40, 3, 3), pads=ONES), tile(64, 64, 64, True)),
    "3x3 stride 2": (convolution((2, 9, 11, 32), (32, 3, 3), (2, 2), ONES), tile(64, 32, 32, False)),
    "3x3 stride 2, even": (convolution((2, 8, 10, 32), (32, 3, 3), (2, 2), ONES), tile(64, 32, 32, False)),
    "uneven pads": (convolution((1, 8, 8, 32), (24, 3, 3), (2, 2), (0, 0, 1, 1)), tile(64, 32, 32, False)),
    "left over": (convolution((2, 9, 9, 32), (16, 2, 2), (2, 3)), tile(64, 32, 32, False)),
    "dilated": (convolution((1, 10, 9, 32), (16, 3, 3), (1, 2), (2, 3, 2, 3), (2, 3)), tile(64, 32, 32, True)),
    "1x1 stride 2": (convolution((5, 7, 7, 64), (136, 1, 1), (2, 2)), tile(64, 64, 64, False, True)),
    "1x7": (convolution((1, 6, 9, 32), (16, 1, 7), pads=(0, 3, 0, 3)), tile(64, 32, 32, True)),
    "between others": (convolution((2, 6, 5, 32), (24, 3, 3), pads=ONES, gap=8), tile(64, 32, 32, True)),
}


@pytest.mark.parametrize("name", GROUPS)
def test_tiles(name: str) -> None:
    group, configuration = GROUPS[name]
    group = replace(group, epilogue=replace(group.epilogue, bias=None, act=replace(group.epilogue.act, name="none")))
    assert TACTIC.supports(group, SM90), TACTIC.supports(group, SM90).reasons
    rng = np.random.default_rng(0)
    memory = Memory()
    for view in (group.x, group.w):
        memory.put(view, rng.normal(size=view.shape))
    x, w = memory.get(group.x), memory.get(group.w)
    (launch,) = TACTIC.launches(group, configuration, SM90)
    got = walk(launch, x, w).reshape(group.y.shape)
    columns = reference._windows(
        x.astype(np.float32), w.shape[1:3], group.stride, group.pads, group.dilation, group.y.shape[1:3]
    )
    wanted = columns.reshape(*group.y.shape[:3], -1) @ w.reshape(len(w), -1).astype(np.float32).T
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


def matrices(m: int, n: int, k: int, residual: bool = False) -> Gemm:
    return Gemm(
        name="g",
        a=dense("a", "fp16", (m, k)),
        b=dense("b", "fp16", (n, k), "weight"),
        y=dense("y", "fp16", (m, n)),
        epilogue=Epilogue(
            dense("bias", "fp32", (n,), "weight"),
            Activation("gelu"),
            dense("r", "fp16", (m, n)) if residual else None,
        ),
    )


@pytest.mark.parametrize("together", [False, True])
def test_matrices(together: bool) -> None:
    group = matrices(200, 72, 88)
    assert GEMM.supports(group, SM90), GEMM.supports(group, SM90).reasons
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=view.shape).astype(np.float16) for view in (group.a, group.b))
    (launch,) = GEMM.launches(group, tile(64, 64, 64, together), SM90)
    np.testing.assert_allclose(walk(launch, a, b), a.astype(np.float32) @ b.astype(np.float32).T, rtol=1e-4, atol=1e-3)


def test_matrices_are_refused_with_reasons() -> None:
    group = matrices(200, 70, 88)
    group = replace(group, b=dense("b", "fp16", (88, 70)), y=dense("y", "fp32", (200, 70)))
    assert HopperGemm(compiles=False).supports(group, SM90).reasons == (
        "the installed Triton has no im2col loads; wanted 3.8 or newer",
        "a: fp16 beside an output of fp32; wanted fp16 or bf16 everywhere",
        "b: fp16 beside an output of fp32; wanted fp16 or bf16 everywhere",
        "b: strides (70, 1) from 0; wanted multiples of 16 bytes, and 1",
        "y: fp32 beside an output of fp32; wanted fp16 or bf16 everywhere",
        "y: strides (70, 1) from 0; wanted multiples of 16 bytes, and 1",
    )


def test_refusals_carry_reasons() -> None:
    group = convolution((1, 5, 5, 24), (20, 3, 3), groups=1, gap=4)
    assert HopperConv(compiles=False).supports(group, TARGETS["sm_80"]).reasons == (
        "the installed Triton has no im2col loads; wanted 3.8 or newer",
        "sm_80; wanted sm_90",
        "x: strides (700, 140, 28, 1) from 4; wanted multiples of 16 bytes, and 1",
        "y: strides (216, 72, 24, 1) from 4; wanted multiples of 16 bytes, and 1",
        "24 channels; wanted a multiple of 32",
    )


LARGE: dict[str, Conv | Gemm] = {
    "3x3": convolution((128, 28, 28, 128), (128, 3, 3), pads=ONES),
    "3x3 in 64": convolution((128, 56, 56, 64), (64, 3, 3), pads=ONES),
    "1x1, residual": convolution((128, 56, 56, 64), (256, 1, 1), residual=True),
    "1x1 stride 2": convolution((128, 56, 56, 256), (512, 1, 1), (2, 2)),
    "3x3 in 96, bf16": convolution((16, 14, 14, 96), (96, 3, 3), pads=ONES, residual=True, dtype="bf16"),
    "matrices": matrices(25216, 3072, 768),
    "matrices, residual": matrices(401408, 256, 64, residual=True),
}
needs_im2col = pytest.mark.skipif(not HopperConv().compiles, reason="needs Triton 3.8")


def tactic_of(group: Group) -> Any:
    return TACTIC if isinstance(group, Conv) else GEMM


@pytest.mark.parametrize("name", LARGE)
def test_configurations_fit(name: str) -> None:
    found = tactic_of(LARGE[name]).configurations(LARGE[name], SM90)
    assert 4 <= len(found) <= 14
    assert len({tuple(each.items()) for each in found}) == len(found)


def _check(group: Group, configuration: Any, kernels: list[Any]) -> None:
    (kernel,) = kernels
    (launch,) = tactic_of(group).launches(group, configuration, SM90)
    assert kernel.threads == 384
    assert kernel.shared_bytes <= SM90.shared_bytes
    assert kernel.null_pointers == 2
    assert len(kernel.parameters) == len(launch.arguments)
    assert kernel.parameters.count("tensormap") == sum(isinstance(a, TensorMap) for a in launch.arguments)


@needs_im2col
@pytest.mark.parametrize("name", ["3x3", "matrices, residual"])
def test_compiles(name: str) -> None:
    group = LARGE[name]
    tactic = tactic_of(group)
    configuration = tactic.configurations(group, SM90)[0]
    _check(group, configuration, compile_group(tactic, group, SM90, configuration))


@needs_im2col
@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_every_configuration_compiles(name: str) -> None:
    for configuration, kernels in every_kernel(tactic_of(LARGE[name]), LARGE[name], SM90):
        _check(LARGE[name], configuration, kernels)


@needs_im2col
@pytest.mark.parametrize("name", ["matrices, residual", "3x3 in 96, bf16"])
def test_boxes_are_those_that_triton_loads(name: str) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon._runtime import GluonASTSource

    group = LARGE[name]
    tactic = tactic_of(group)
    (launch,) = tactic.launches(group, tactic.configurations(group, SM90)[0], SM90)
    source = launch.kernel
    names = list(source.signature)
    constants = {(names.index(name),): value for name, value in source.constants.items()}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in source.divisible}
    ast = GluonASTSource(source.function, dict(source.signature), constants, attributes)
    options = {"num_warps": source.num_warps, **source.options}
    compiled = triton.compile(ast, target=GPUTarget("cuda", 90, 32), options=options)
    maps = [argument for argument in launch.arguments if isinstance(argument, TensorMap)]
    for described, argument in zip(compiled.metadata.tensordesc_meta, maps, strict=True):
        described = dict(described)
        assert tuple(described["block_size"]) == argument.box
        assert described["is_im2col"] == (argument.im2col is not None)
        assert 16 << described["swizzle"] == min(128, 2 * argument.box[1])
        assert math.prod(argument.box) <= 256 * 64
