"""Lowering as a whole: what it refuses, with every reason, and what reaches the caller's memory."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from backends.cuda.lowered import agrees, answers, lowered
from backends.cuda.test_networks import prepared
from pass_checks import build

from trine.backends.cuda.groups import Pointwise
from trine.backends.cuda.lowering import Weights, lower
from trine.backends.cuda.lowering.weights import _rounded
from trine.builder.freeze import freeze, tensor_infos
from trine.errors import ConfigError, UnsupportedError


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def lowered_as_it_is(inputs: str, outputs: str, body: str, rows: int = 2, precision: str = "fp32", **constants: object):  # type: ignore[no-untyped-def]
    model = ir.from_proto(build(inputs, outputs, body, **constants))  # type: ignore[arg-type]
    return lower(freeze(model), rows, *tensor_infos(model), precision)


def test_every_node_without_kernels_is_named_with_its_reason() -> None:
    body = "a = CumSum(x, k)\nb = Det(s)\nc, i = TopK(x, n)\nd = Slice(x, two, zero, one, minus)\ny = Add(a, d)"
    with pytest.raises(UnsupportedError, match="4 nodes cannot run in the CUDA backend") as caught:
        lowered_as_it_is(
            "float[n,4] x, float[n,3,3] s", "float[n,4] y, float[n] b, float[n,1] c", body,
            k=np.array(1, np.int64), n=np.array([1], np.int64), two=np.array([-1]), zero=np.array([-9]),
            one=np.array([1]), minus=np.array([-1]),
        )  # fmt: skip
    problems = caught.value.problems
    assert [problem.split("(")[1].split(")")[0] for problem in problems] == ["CumSum", "Det", "TopK", "Slice"]
    assert "step -1 is negative" in problems[3]


def test_dynamic_axes_other_than_rows() -> None:
    with pytest.raises(UnsupportedError, match=r"input 'x': axis 1 is 'length'.*Fix those axes with shapes="):
        lowered_as_it_is("float[n,length] x", "float[n,length] y", "y = Relu(x)")


def test_computed_reshape_target() -> None:
    with pytest.raises(UnsupportedError, match=r"input 1 \(s\) is computed; only constants work"):
        lowered_as_it_is("float[n,4] x, int64[2] s", "float[n,4] y", "y = Reshape(x, s)")


def test_a_scale_for_each_row() -> None:
    w = np.ones((4, 6), np.float32)
    with pytest.raises(UnsupportedError, match=r"a scale or bias of shape \(4, 6\); wanted \(6,\)"):
        lowered(build("float[n,4,6] x", "float y", "y = RMSNormalization(x, w)", w=w))


def test_unknown_precision() -> None:
    with pytest.raises(ConfigError, match=r"precision 'int3' is not one of.*fp16"):
        lowered_as_it_is("float[n,4] x", "float[n,4] y", "y = Relu(x)", precision="int3")


def test_doubles_have_no_kernels_at_the_edge() -> None:
    with pytest.raises(UnsupportedError, match="input 'x' is float64, which has no kernels"):
        lowered_as_it_is("double[n,4] x", "double[n,4] y", "y = Relu(x)")


def test_only_copies_touch_the_callers_memory() -> None:
    made = lowered(build("float[n,3,8,8] x", "float y", "c = Conv(x, w)\ny = Relu(c)", w=weights(4, 3, 3, 3)))
    for group in made.groups:
        kinds = {view.buffer.kind for view in (*group.views(), *group.written())}
        assert not kinds & {"input", "output"} or (isinstance(group, Pointwise) and group.by_rows)
    assert [buffer.name for buffer in (*made.inputs, *made.outputs)] == ["x", "y"]


def test_a_model_without_rows_has_no_row_limits() -> None:
    made = lowered_as_it_is("float[2,4] x", "float[2,4] y", "y = Relu(x)")
    assert not any(group.by_rows for group in made.groups)


def test_storage_types() -> None:
    proto = build("float[n,6] x", "float y", "y = Gemm(x, w, b)", w=weights(6, 5), b=weights(5))
    for precision, storage in (("fp16", "fp16"), ("bf16", "bf16"), ("tf32", "fp32")):
        gemm = lowered(proto, precision=precision).groups[1]
        assert {gemm.a.dtype, gemm.b.dtype, gemm.y.dtype} == {storage}  # type: ignore[attr-defined]
        assert gemm.epilogue.bias.dtype == "fp32"  # type: ignore[attr-defined]
        assert gemm.b.buffer.data.dtype.name == {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}[storage]  # type: ignore[attr-defined]


def test_huge_weights_stay_finite_in_fp16() -> None:
    mask = np.array([0, -3.0e38, -np.inf, 1], np.float32)
    made = lowered(build("float[n,4] x", "float y", "a = Add(x, m)\ny = Softmax(a)", m=mask), precision="fp16")
    (got,) = answers(made, [np.zeros((3, 4), np.float32)])
    assert np.isfinite(got).all()


def test_equal_weights_share_memory() -> None:
    body = "a = MatMul(x, w)\nb = Sigmoid(a)\ny = MatMul(b, w)"
    made = agrees(build("float[n,6] x", "float y", body, w=weights(6, 6)))
    assert len({view.buffer for group in made.groups for view in group.views() if view.buffer.kind == "weight"}) == 1


def test_weights_beyond_fp16_stay_finite_and_infinities_stay() -> None:
    given = np.array([-1e9, 65519.0, 65520.0, np.inf, -np.inf, np.nan, 1.0], np.float32)
    wanted = np.array([-65504.0, 65504.0, 65504.0, np.inf, -np.inf, np.nan, 1.0], np.float16)
    np.testing.assert_array_equal(_rounded(given, np.dtype(np.float16)), wanted)
    np.testing.assert_array_equal(_rounded(given[:3], np.dtype(np.float16)), wanted[:3])


def test_weights_are_rounded_once_for_all_numbers_of_rows() -> None:
    graph, inputs, outputs, *_ = prepared("vit")
    weights = Weights()
    one, two = (
        {
            view.buffer.name: view.buffer.data
            for group in lower(graph, rows, inputs, outputs, "fp16", weights=weights).groups
            for view in group.views()
            if view.buffer.kind == "weight" and view.buffer.dtype == "fp16"
        }
        for rows in (1, 4)
    )
    others = {name for name, data in one.items() if two.get(name) is not data}
    assert others == {"expand", "conv_proj.weight in blocks"}, "what fusion makes of weights, for each number of rows"
