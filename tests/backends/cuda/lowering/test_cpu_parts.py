"""Operators without kernels between kernels: whole plans, played on a recording driver, beside ONNX Runtime."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from backends.cuda.lowered import error
from backends.cuda.played import Played
from pass_checks import build

from trine.errors import BuildError, UnsupportedError

ONE = np.array(1, np.int64)
Array = np.ndarray[Any, Any]


def weights(*shape: int, seed: int = 3) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype(np.float32)


def random(rows: int, *shape: int) -> Array:
    return np.random.default_rng(rows).standard_normal((rows, *shape)).astype(np.float32)


CONVOLUTION = "float[n,3,6,6] x"
SQUARE = "float[n,4,4] x"
# name: inputs, outputs, body, the operators of each of the CPU's steps
PLACES: dict[str, tuple[str, str, str, list[list[str]]]] = {
    "at the start": (
        CONVOLUTION, "float[n,4,6,6] y", "a = CumSum(x, one)\nb = Conv <pads = [1, 1, 1, 1]> (a, w)\ny = Relu(b)",
        [["CumSum"]],
    ),
    "in the middle": (
        CONVOLUTION, "float[n,4,4,4] y",
        "a = Conv <pads = [1, 1, 1, 1]> (x, w)\nb = LpPool <kernel_shape = [3, 3]> (a)\n"
        "c = Sigmoid(b)\ny = Add(c, b)",
        [["LpPool"]],
    ),
    "at the end": (SQUARE, "float[n] y", "a = MatMul(x, m)\ny = Det(a)", [["Det"]]),
    "in branches beside one another": (
        SQUARE, "float[n] y", "a = MatMul(x, m)\nb = Neg(x)\nc = Det(a)\nd = Det(b)\ny = Add(c, d)", [["Det", "Det"]],
    ),
    "one behind the other": (
        SQUARE, "float[n,4,4] y", "a = CumSum(x, one)\nb = CumSum(a, one)\ny = MatMul(b, m)", [["CumSum", "CumSum"]],
    ),
    "with kernels in between": (
        SQUARE, "float[n,4,4] y",
        "a = CumSum(x, one)\nb = MatMul(a, m)\nc = CumSum(b, one)\nd = Mul(c, a)\ny = Tanh(d)",
        [["CumSum"], ["CumSum"]],
    ),
    "with two outputs": (
        SQUARE, "float[n,4,4] y, float[n] z", "a = MatMul(x, m)\ny = CumSum(a, one)\nb = Relu(y)\nz = Det(b)",
        [["CumSum"], ["Det"]],
    ),
    "with two outputs of its own": (
        SQUARE, "float[n,4,2] y, int64[n,4,2] z", "a = Relu(x)\ny, z = TopK(a, k)", [["TopK"]],
    ),
    "with constants that are large": (
        SQUARE, "float[n,4,40] y",
        "a = Relu(x)\nb = Einsum <equation = \"nij,jkl->nikl\"> (a, big)\nc = CumSum(b, one)\n"
        "d = Mod <fmod = 1> (c, big4)\ne = Add(c, d)\ny = ReduceSum <keepdims = 0> (e, last)",
        [["CumSum", "Mod"]],
    ),
    "with doubles": (
        SQUARE, "float[n,4,4] y",
        "a = Relu(x)\nb = Cast <to = 11> (a)\nc = CumSum(b, one)\nd = Cast <to = 1> (c)\ny = Sigmoid(d)", [["CumSum"]],
    ),
    "with numbers that no kernel has": (
        SQUARE, "float[n,4,4] y",
        "a = Mul(x, ten)\nb = Cast <to = 5> (a)\nc = Abs(b)\nd = Cast <to = 1> (c)\ny = Sqrt(d)",
        [["Abs", "Cast", "Cast"]],
    ),
}  # fmt: skip
CONSTANTS: dict[str, Array] = {
    "one": ONE, "w": weights(4, 3, 3, 3), "m": weights(4, 4), "k": np.array([2]), "ten": np.float32(10),
    "last": np.array([3]), "big": weights(4, 40, 8), "big4": np.abs(weights(1, 4, 40, 8)) + 1,
}  # fmt: skip


def model(name: str) -> onnx.ModelProto:
    inputs, outputs, body, _ = PLACES[name]
    words = set(re.findall(r"\w+", body))
    used = {key: array for key, array in CONSTANTS.items() if key in words}
    return build(inputs, outputs, body, opset=20, **used)


def shape_of(name: str) -> tuple[int, ...]:
    return (3, 6, 6) if PLACES[name][0] is CONVOLUTION else (4, 4)


@pytest.mark.parametrize("name", PLACES)
def test_every_number_of_rows(name: str) -> None:
    """Buckets of 1 and 4, and pieces."""
    played = Played(model(name))
    assert played.on_cpu == PLACES[name][3]
    for rows in (1, 3, 4, 6):
        x = random(rows, *shape_of(name))
        for got, want in zip(played.answers(x), played.wanted(x), strict=True):
            assert (got.dtype, got.shape) == (want.dtype, want.shape)
            assert error(got, want) <= 2e-6, rows
    played.close()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", ["in the middle", "with kernels in between"])
def test_narrow_precisions(name: str, precision: str) -> None:
    """What the CPU gets and gives is fp32, as the graph says."""
    played = Played(model(name), precision=precision)
    for part in played.plan.cpu_parts:
        assert {dtype for _, dtype in part.inputs} == {"float32"}
    x = random(3, *shape_of(name))
    got, want = played.answers(x)[0], played.wanted(x)[0]
    assert 0 < error(got, want) <= {"fp16": 4e-3, "bf16": 3e-2}[precision]
    played.close()


@pytest.mark.parametrize("name", PLACES)
def test_equal_rows_have_equal_answers(name: str) -> None:
    played = Played(model(name), (4,))
    for array in played.answers(np.repeat(random(1, *shape_of(name)), 4, axis=0)):
        for row in array[1:]:
            np.testing.assert_array_equal(row, array[0])
    played.close()


def test_branches_read_from_outside() -> None:
    """Values that only the inner graphs of an If mention are inputs of its part."""
    body = (
        "a = Relu(x)\nh = Tanh(a)\n"
        "b = If (q) <then_branch = yes () => (float[2,4] t) { t = CumSum(h, one) },"
        " else_branch = no () => (float[2,4] e) { e = Neg(a) }>\ny = Add(b, a)"
    )
    proto = build("float[2,4] x, bool q", "float[2,4] y", body, one=ONE)
    played = Played(proto, (2,))
    assert played.on_cpu == [["If"]]
    assert {name for name, _ in played.plan.cpu_parts[0].inputs} == {"q", "h", "a"}
    for condition in (True, False):
        arrays = random(2, 4), np.array(condition)
        assert error(played.answers(*arrays)[0], played.wanted(*arrays)[0]) <= 2e-6
    played.close()


@pytest.mark.parametrize("said", [False, True])
def test_loops(said: bool) -> None:
    """ONNX's rules do not tell the shape of what a loop carries; where the graph does, kernels go on with it."""
    body = (
        "a = Relu(x)\n"
        "b = Loop (trips, , a) <body = step (int64 i, bool c, float[2,4] v) => (bool d, float[2,4] w) "
        "{ d = Identity(c)\nw = CumSum(v, one) }>\ny = Tanh(b)"
    )
    proto = build("float[2,4] x", "float[2,4] y", body, one=ONE, trips=np.array(3, np.int64))
    if said:
        kept = [value for value in proto.graph.value_info if value.name != "b"]
        del proto.graph.value_info[:]
        proto.graph.value_info.extend([*kept, onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [2, 4])])
    played = Played(proto, (2,))
    assert played.on_cpu == ([["Loop"]] if said else [["Loop", "Tanh"]])
    x = random(2, 4)
    assert error(played.answers(x)[0], played.wanted(x)[0]) <= 2e-6
    played.close()


def test_shapes_that_depend_on_values_stay_on_the_cpu() -> None:
    """Until their shape is known again; what they are made of, and what is made of them, runs on the GPU."""
    body = (
        "a = MatMul(x, m)\nb = Relu(a)\nc = NonZero(b)\nd = GatherND(b, e)\ne = Transpose(c)\n"
        "f = ReduceSum <keepdims = 1> (d)\ny = Mul(f, a)"
    ).replace("d = GatherND(b, e)\ne = Transpose(c)", "e = Transpose(c)\nd = GatherND(b, e)")
    played = Played(build("float[4,4] x", "float[4,4] y, int64[2,count] c", body, m=weights(4, 4)), (4,))
    assert played.on_cpu == [["GatherND", "NonZero", "ReduceSum", "Transpose"]]
    assert played.plan.outputs == (((4, 4), "float32"), (None, "int64"))
    for seed in (1, 2, 3):
        x = np.random.default_rng(seed).standard_normal((4, 4)).astype(np.float32)
        for got, want in zip(played.answers(x), played.wanted(x), strict=True):
            assert got.shape == want.shape
            assert error(got, want) <= 2e-6
    played.close()


def test_from_one_step_to_a_later_one_through_host_memory() -> None:
    """The positions that NonZero finds are used behind a kernel that needs an earlier result of the CPU."""
    body = (
        "a = Relu(x)\nc = NonZero(a)\np = Transpose(c)\nb = CumSum(a, one)\nd = MatMul(b, m)\n"
        "e = GatherND(d, p)\nf = ReduceSum <keepdims = 1> (e)\ny = Mul(f, d)"
    )
    played = Played(build("float[4,4] x", "float[4,4] y", body, one=ONE, m=weights(4, 4)), (4,))
    assert played.on_cpu == [["CumSum", "NonZero", "Transpose"], ["GatherND", "ReduceSum"]]
    kinds = [{edge.place[0] for edge in step.inputs} for step in played.plan.buckets[0].cpu_steps]
    assert kinds == [{"arena"}, {"arena", "slot"}]
    x = random(4, 4)
    assert error(played.answers(x)[0], played.wanted(x)[0]) <= 2e-6
    played.close()


def test_with_a_batch_that_varies_shapes_of_outputs_are_known() -> None:
    proto = build("float[n,4] x", "int64[2,count] y", "a = Relu(x)\ny = NonZero(a)")
    with pytest.raises(UnsupportedError, match=r"output 'y' \(CPU: y\) has a shape that depends on values"):
        Played(proto)


@pytest.mark.parametrize(("dtype", "number"), [("double", 11), ("uint16", 4)])
def test_what_the_caller_gives_and_takes_in_other_types(dtype: str, number: int) -> None:
    """Arrays whose types have no kernels go from the caller to the CPU, and from the CPU to the caller."""
    body = f"a = Cast <to = 1> (x)\nb = MatMul(a, m)\nc = Relu(b)\ny = Cast <to = {number}> (c)"
    played = Played(build(f"{dtype}[n,4] x", f"{dtype}[n,4] y", body, m=weights(4, 4)))
    assert played.on_cpu == [["Cast"], ["Cast"]]
    for rows in (1, 3, 6):
        x = np.abs(random(rows, 4) * 9).astype({"double": np.float64}.get(dtype, np.uint16))
        got, want = played.answers(x)[0], played.wanted(x)[0]
        assert got.dtype == want.dtype == x.dtype
        assert np.abs(got.astype(np.float64) - want).max() <= (1e-5 if dtype == "double" else 1)
    played.close()


def test_indices_of_rows_that_a_call_does_not_have() -> None:
    """A bucket's memory holds what an earlier call left there; the CPU would refuse it as an index."""
    body = "a = Add(i, one)\nb = Sub(a, one)\nc = Relu(t)\ny = GatherElements <axis = 1> (c, b)"
    played = Played(build("int64[n,2] i, float[n,4] t", "float[n,2] y", body, one=ONE), (4,))
    assert played.on_cpu == [["GatherElements"]]
    for rows in (4, 1, 3):
        i = np.random.default_rng(rows).integers(0, 4, (rows, 2))
        arrays = i, random(rows, 4)
        np.testing.assert_array_equal(played.answers(*arrays)[0], played.wanted(*arrays)[0])
    played.close()


def test_only_what_is_left_of_the_graph_is_on_the_cpu_and_shared_by_all_buckets() -> None:
    played = Played(model("with kernels in between"), (1, 2, 4))
    assert len(played.plan.cpu_parts) == 2
    assert [[step.part for step in bucket.cpu_steps] for bucket in played.plan.buckets] == [[0, 1]] * 3
    played.close()


def test_where_the_gpu_would_only_copy_there_is_no_plan() -> None:
    proto = build("float[n,4,4] x", "float[n] y, float[n,4,4] z", "y = Det(x)\nz = Identity(x)")
    with pytest.raises(AssertionError):
        Played(proto)


def test_what_the_cpu_refuses_too_is_said() -> None:
    proto = build("float[n,4] x", "float[n,4] y", "a = Relu(x)\ny = custom.Nothing(a)")
    with pytest.raises(BuildError, match=r"nothing here can compute y \(Nothing\) on the CPU: ONNX Runtime"):
        Played(proto)


def test_as_a_detector_ends() -> None:
    """Boxes and scores by kernels, which of them are kept by the CPU."""
    body = (
        "a = Relu(x)\nb = MatMul(a, m)\nboxes = Abs(b)\ns = MatMul(a, v)\nt = Transpose <perm = [0, 2, 1]> (s)\n"
        "scores = Sigmoid(t)\nkept = NonMaxSuppression(boxes, scores, most, overlap, half)"
    )
    proto = build(
        "float[1,9,4] x", "float[1,9,4] boxes, int64[count,3] kept", body, opset=20, m=weights(4, 4), v=weights(4, 2),
        most=np.array([3]), overlap=np.array([0.5], np.float32), half=np.array([0.5], np.float32),
    )  # fmt: skip
    played = Played(proto, (1,))
    assert played.on_cpu == [["NonMaxSuppression"]]
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((1, 9, 4)).astype(np.float32)
        boxes, kept = played.answers(x)
        want_boxes, want_kept = played.wanted(x)
        assert error(boxes, want_boxes) <= 2e-6
        np.testing.assert_array_equal(kept, want_kept)
    played.close()
