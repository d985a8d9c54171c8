"""Products for Hopper: the kernel played in Python, with its copies and barriers, and that it compiles."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.cuda.compiling import compile_group
from backends.cuda.gluon_play import play
from backends.cuda.interpret import Memory, ReferenceMemory
from backends.cuda.kernels.test_conv import convolution, dense

from trine.backends.cuda import reference
from trine.backends.cuda.groups import Activation, Conv, Epilogue, Gemm, Group, Normal
from trine.backends.cuda.kernels.conv_gluon import HopperConv
from trine.backends.cuda.kernels.gemm_gluon import HopperGemm
from trine.backends.cuda.tactic import TensorMap
from trine.backends.cuda.target import TARGETS

SM90 = TARGETS["sm_90"]
TACTIC = HopperConv(compiles=True)
GEMM = HopperGemm(compiles=True)
Array = np.ndarray[Any, Any]


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


def play_group(tactic: Any, group: Any, configuration: Any, seed: int, programs: int) -> None:
    """``programs``: of the GPU, few, so that each has several tiles."""
    assert tactic.supports(group, SM90), tactic.supports(group, SM90).reasons
    rng = np.random.default_rng(0)
    memory = Memory()
    views = [group.x, group.w] if isinstance(group, Conv) else [group.a, group.b]
    epilogue = group.epilogue
    normal = getattr(group, "normal", None)
    vectors = {} if normal is None else {"statistics": normal.statistics, "sums": normal.sums}
    for view in (*views, *vectors.values(), epilogue.bias, epilogue.residual):
        if view is not None:
            memory.put(view, rng.normal(size=view.shape))
    memory.put(group.y, np.full(group.y.shape, np.nan))
    (launch,) = tactic.launches(group, configuration, replace(SM90, multiprocessors=programs))
    y = np.full((math.prod(group.y.shape[:-1]), group.y.shape[-1]), np.nan, np.float16)
    arrays = {"x": memory.get(views[0]), "w": memory.get(views[1]), "y": y}
    arrays["w"] = arrays["w"].reshape(len(arrays["w"]), -1)
    if epilogue.residual is not None:
        arrays["residual"] = memory.get(epilogue.residual).reshape(y.shape)
    if epilogue.bias is not None:
        arrays["bias"] = memory.get(epilogue.bias)
    arrays |= {name: memory.get(view).reshape(-1) for name, view in vectors.items()}
    play(launch, arrays, seed)
    reference.run_group(group, ReferenceMemory(memory))
    wanted = memory.get(group.y).reshape(y.shape)
    np.testing.assert_allclose(y, wanted, rtol=4e-3, atol=4e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("name", GROUPS)
def test_tiles(name: str) -> None:
    group, configuration = GROUPS[name]
    play_group(TACTIC, group, configuration, seed=1, programs=3)


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
@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("products", "stages"), [(88, 2), (296, 3), (600, 4), (128, 8)])
def test_matrices(together: bool, resident: bool, residual: bool, products: int, stages: int) -> None:
    """Several tiles in each program, and steps more and fewer than there are buffers."""
    group = matrices(430, 72, products, residual)
    configuration = {**tile(64, 64, 64, together, resident), "stages": stages}
    for seed in range(2):
        play_group(GEMM, group, configuration, seed, programs=2 + seed)


def normalised(m: int, n: int, k: int, residual: bool = False) -> Gemm:
    normal = Normal(dense("statistics", "fp32", (m, 2)), dense("sums", "fp32", (n,), "weight"))
    return replace(matrices(m, n, k, residual), normal=normal)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_normalised_sums(together: bool, residual: bool) -> None:
    group = normalised(430, 72, 296, residual)
    play_group(GEMM, group, tile(64, 64, 64, together), seed=0, programs=2)
    bare = replace(group, epilogue=Epilogue())
    play_group(GEMM, bare, tile(64, 64, 64, together, resident=True), seed=1, programs=3)


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
    "matrices, normalised": normalised(25216, 3072, 768),
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
@pytest.mark.parametrize("name", ["3x3", "matrices, residual", "matrices, normalised"])
def test_compiles(name: str) -> None:
    group = LARGE[name]
    tactic = tactic_of(group)
    configuration = tactic.configurations(group, SM90)[0]
    _check(group, configuration, compile_group(tactic, group, SM90, configuration))


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
