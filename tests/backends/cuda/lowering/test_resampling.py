"""Resize in all its ways, beside ONNX Runtime; and that tactics take what it becomes."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from backends.cuda.compiling import compile_group
from backends.cuda.interpret import check_group
from backends.cuda.lowered import agrees, answers, error, kinds
from onnx.reference import ReferenceEvaluator
from pass_checks import build

from trine.backends.cuda.groups import GatherRows, Gemm, Group
from trine.backends.cuda.kernels import gather_rows, gemm_launch
from trine.backends.cuda.lowering import Lowered, lower
from trine.backends.cuda.target import TARGETS, target_named
from trine.builder.freeze import freeze, tensor_infos

IMAGE = "float[n,3,5,6] x"
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")


def resized(
    attributes: str, *, scales: tuple[float, ...] = (), sizes: tuple[int, ...] = (), before: str = "",
    precision: str = "fp32", tolerance: float = 3e-6,
) -> Lowered:  # fmt: skip
    """``before``: nodes that make a of x."""
    given = {"s": np.array(scales, np.float32)} if scales else {"s": np.array((3, *sizes[1:]), np.int64)}
    operands = "a, , s" if scales else "a, , , s"
    body = f"{before or 'a = Identity(x)'}\ny = Resize<{attributes}>({operands})"
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    constants = {**given, **({"w": weights} if "(x, w)" in before else {})}
    proto = build(IMAGE, "float y", body, 19, **constants)
    return agrees(proto, precision=precision, tolerance=tolerance)


@pytest.mark.parametrize(("mode", "coordinates"), list(itertools.product(["linear", "cubic"], COORDINATES)))
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 1.6, 0.5)], ids=["up", "both"])
def test_interpolation(mode: str, coordinates: str, scales: tuple[float, ...]) -> None:
    made = resized(f'mode="{mode}", coordinate_transformation_mode="{coordinates}"', scales=scales)
    assert kinds(made)["Gemm"] == 2


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_sizes_that_are_cut_off(mode: str) -> None:
    """8.5 by 3.6 elements: ONNX Runtime goes on with the 8 and 3, ONNX's definition does not."""
    attributes = f'mode="{mode}", coordinate_transformation_mode="align_corners"'
    scales = np.array([1, 1, 1.7, 0.6], np.float32)
    proto = build("float[2,3,5,6] x", "float[2,3,8,3] y", f"y = Resize<{attributes}>(x, , s)", 19, s=scales)
    model = ir.from_proto(proto)
    inputs, outputs = tensor_infos(model)
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 6)).astype(np.float32)
    made = lower(freeze(model), 1, inputs, outputs, "fp32")
    assert error(answers(made, [x])[0], ReferenceEvaluator(proto).run(None, {"x": x})[0]) <= 1e-5


@pytest.mark.parametrize(
    ("coordinates", "rounding"),
    [("half_pixel", "round_prefer_floor"), ("half_pixel", "floor"), ("asymmetric", "ceil"),
     ("align_corners", "round_prefer_ceil"), ("asymmetric", "floor")],
)  # fmt: skip
@pytest.mark.parametrize("sizes", [(3, 3, 8, 9), (3, 3, 4, 13)], ids=["up", "both"])
def test_nearest(coordinates: str, rounding: str, sizes: tuple[int, ...]) -> None:
    attributes = f'mode="nearest", coordinate_transformation_mode="{coordinates}", nearest_mode="{rounding}"'
    made = resized(attributes, sizes=sizes, tolerance=0)
    assert kinds(made)["GatherRows"] == 2


def test_repetition_needs_no_index() -> None:
    made = resized('mode="nearest"', sizes=(3, 3, 10, 18), tolerance=0)
    assert "GatherRows" not in kinds(made)


def test_cubic_with_other_weights() -> None:
    resized('mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1', sizes=(3, 3, 9, 4))


@pytest.mark.parametrize("size", [1, 2])
def test_to_one_and_from_one(size: int) -> None:
    for coordinates in ("align_corners", "pytorch_half_pixel"):
        resized(f'mode="linear", coordinate_transformation_mode="{coordinates}"', sizes=(3, 3, 1, size))


def test_channels_last_within_a_network() -> None:
    """Between convolutions a row of pixels has its channels beside one another: no copy is made of it."""
    made = resized('mode="linear"', sizes=(3, 4, 6, 8), before="a = Conv(x, w)")
    assert kinds(made) == {"Conv": 1, "Gemm": 2}


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_narrow(precision: str, tolerance: float) -> None:
    resized('mode="linear"', sizes=(3, 3, 7, 11), precision=precision, tolerance=tolerance)
    resized('mode="nearest"', sizes=(3, 3, 7, 11), precision=precision, tolerance=tolerance)


def products(precision: str) -> list[Group]:
    """With channels beside one another, and with pixels."""
    attributes = 'mode="linear"'
    found = []
    for before in ("", "a = Conv(x, w)"):
        sizes = (3, 4 if before else 3, 7, 9)
        made = resized(attributes, sizes=sizes, before=before, precision=precision, tolerance=0.03)
        found += [group for group in made.groups if isinstance(group, Gemm)]
    return found


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 4e-3)])
def test_kernels_take_the_products(precision: str, tolerance: float) -> None:
    """In Triton's interpreter."""
    target = target_named("sm_90")
    for group in products(precision):
        tactic = next(each for each in gemm_launch.TACTICS if each.supports(group, target))
        configuration = tactic.configurations(group, target)[0]
        check_group(tactic, group, target, configuration, rtol=tolerance, atol=tolerance)


def test_kernels_take_the_rows() -> None:
    made = resized('mode="nearest"', sizes=(3, 3, 7, 11), tolerance=0)
    target = target_named("sm_90")
    (tactic,) = gather_rows.TACTICS
    for group in made.groups:
        if isinstance(group, GatherRows):
            check_group(tactic, group, target, tactic.configurations(group, target)[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", TARGETS)
def test_kernels_compile(name: str) -> None:
    target = target_named(name)
    group = products("fp16")[-1]
    tactic = next(each for each in gemm_launch.TACTICS if each.supports(group, target))
    compile_group(tactic, group, target, tactic.configurations(group, target)[0])
