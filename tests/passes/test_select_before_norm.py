from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torchvision_shim
from onnx.reference import ReferenceEvaluator
from pass_checks import build, feed_for, op_types, optimised, run, unchanged

from trine.importers import import_model
from trine.passes.pipeline import run_passes
from trine.passes.select_before_norm import SelectBeforeNorm

torchvision_shim.define_missing_operators()
from torchvision.models import VisionTransformer  # noqa: E402

RNG = np.random.default_rng(5)
X = "float[n, 6, 4] x"
NORM = "m = LayerNormalization<axis = -1, epsilon = 0.01>(x, s, t)\n"
LAST = 2**63 - 1


def _floats(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


def _integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CONSTANTS = {"s": _floats(4), "t": _floats(4), "i": np.array(0, np.int64), "one": _integers(1)}
GATHER = "y = Gather<axis = 1>(m, i)"


def _norm(model: ir.Model) -> ir.Node:
    (node,) = (node for node in model.graph if node.op_type == "LayerNormalization")
    return node


@pytest.mark.parametrize(
    ("index", "dims"),
    [
        (np.array(0, np.int64), "n, 4"),
        (np.array(-1, np.int64), "n, 4"),
        (np.array(2, np.int32), "n, 4"),
        (_integers(3), "n, 1, 4"),
        (_integers(3, 0, 3), "n, 3, 4"),
        (_integers(5, 2).reshape(1, 2), "n, 1, 2, 4"),
    ],
    ids=["scalar", "from the end", "32 bits", "one", "three", "matrix"],
)
@pytest.mark.parametrize("axis", [-1, 2])
@pytest.mark.parametrize("along", [1, -2])
def test_gather(index: np.ndarray, dims: str, axis: int, along: int) -> None:
    body = f"m = LayerNormalization<axis = {axis}, epsilon = 0.01>(x, s, t)\ny = Gather<axis = {along}>(m, i)"
    proto = build(X, f"float[{dims}] y", body, **{**CONSTANTS, "i": index})
    model = optimised(proto, SelectBeforeNorm())
    assert op_types(model) == ["Gather", "LayerNormalization"]
    norm = _norm(model)
    assert norm.attributes["axis"].as_int() == -1
    assert norm.attributes["epsilon"].as_float() == pytest.approx(0.01)
    assert norm.inputs[0].dtype == ir.DataType.FLOAT
    assert norm.inputs[0].shape == norm.outputs[0].shape
    feed = feed_for(proto)
    np.testing.assert_allclose(
        ReferenceEvaluator(ir.to_proto(model)).run(None, feed)[0], run(proto, feed)[0], atol=1e-5
    )


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps", "dims"),
    [
        ([0], [1], [1], None, "n, 1, 4"),
        ([-1], [LAST], [-2], None, "n, 1, 4"),
        ([0], [LAST], [1], [2], "n, 3, 4"),
        ([-1], [-LAST], [1], [-3], "n, 2, 4"),
        ([0, 2], [LAST, 4], None, None, "n, 2, 4"),
        ([0, 4], [LAST, 9], [0, 1], [1, 1], "n, 2, 4"),
    ],
    ids=["first", "last", "every other", "backwards", "no axes", "two axes"],
)
def test_slice(starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None, dims: str) -> None:
    arrays = {"b": starts, "e": ends, **({"a": axes} if axes else {}), **({"p": steps} if steps else {})}
    given = ", ".join(["m", *arrays])
    constants = {**CONSTANTS, **{name: _integers(*values) for name, values in arrays.items()}}
    model = optimised(build(X, f"float[{dims}] y", f"{NORM}y = Slice({given})", **constants), SelectBeforeNorm())
    assert op_types(model) == ["Slice", "LayerNormalization"]


def test_several_normalised_axes_and_no_bias() -> None:
    body = "m = LayerNormalization<axis = 2>(x, s)\ny = Gather<axis = 1>(m, i)"
    proto = build("float[n, 6, 3, 4] x", "float[n, 3, 4] y", body, s=_floats(3, 4), i=CONSTANTS["i"])
    model = optimised(proto, SelectBeforeNorm())
    assert op_types(model) == ["Gather", "LayerNormalization"]
    assert _norm(model).attributes["axis"].as_int() == -2


def test_one_row_is_left_without_any_other_dimension() -> None:
    body = f"{NORM}y = Gather(m, i)"
    model = optimised(build("float[6, 4] x", "float[4] y", body, **CONSTANTS), SelectBeforeNorm())
    assert op_types(model) == ["Gather", "LayerNormalization"]


def test_fp16() -> None:
    body = "m = LayerNormalization(x, s)\ny = Gather<axis = 1>(m, i)"
    proto = build("float16[n, 6, 4] x", "float16[n, 4] y", body, s=_floats(4).astype(np.float16), i=CONSTANTS["i"])
    assert op_types(optimised(proto, SelectBeforeNorm(), tolerance=2e-3)) == ["Gather", "LayerNormalization"]


def test_an_index_of_the_caller_and_one_of_a_dynamic_dimension() -> None:
    constants = {name: CONSTANTS[name] for name in "st"}
    model = optimised(
        build("float[n, 6, 4] x, int64[1] i", "float[n, 1, 4] y", NORM + GATHER, **constants), SelectBeforeNorm()
    )
    assert op_types(model) == ["Gather", "LayerNormalization"]
    model = optimised(build("float[n, k, 4] x", "float[n, 4] y", NORM + GATHER, **CONSTANTS), SelectBeforeNorm())
    assert op_types(model) == ["Gather", "LayerNormalization"]
    body = f"{NORM}y = Slice(m, b, e, one)"
    proto = build("float[n, k, 4] x", "float[n, l, 4] y", body, b=_integers(-1), e=_integers(LAST), **CONSTANTS)
    assert op_types(optimised(proto, SelectBeforeNorm())) == ["Slice", "LayerNormalization"]


def test_two_selections_and_what_reads_the_row() -> None:
    body = f"{NORM}c = Slice(m, b, e, one)\nd = Gather<axis = 1>(c, i)\ny = Relu(d)"
    proto = build(X, "float[n, 4] y", body, b=_integers(2), e=_integers(4), **CONSTANTS)
    assert op_types(optimised(proto, SelectBeforeNorm())) == ["Slice", "Gather", "LayerNormalization", "Relu"]


def test_inside_a_branch() -> None:
    branch = f"{NORM}r = Gather<axis = 1>(m, i)"
    body = f"""
        y = If(c) <
            then_branch = yes () => (float[n, 4] r) {{ {branch.replace(chr(10), " ")} }},
            else_branch = no () => (float[n, 4] q) {{ q = Gather<axis = 1>(x, i) }}
        >
    """
    model = optimised(build(f"{X}, bool[1] c", "float[n, 4] y", body, **CONSTANTS), SelectBeforeNorm())
    (node,) = model.graph
    assert [each.op_type for each in node.attributes["then_branch"].as_graph()] == ["Gather", "LayerNormalization"]


def test_a_second_time_nothing_is_left_to_do() -> None:
    proto = build(X, "float[n, 4] y", NORM + GATHER, **CONSTANTS)
    assert unchanged(proto, SelectBeforeNorm(), SelectBeforeNorm())


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (f"{NORM}{GATHER}\nz = Neg(m)", "float[n, 4] y, float[n, 6, 4] z"),
        (f"{NORM}{GATHER}\nz = Gather<axis = 1>(m, one)", "float[n, 4] y, float[n, 1, 4] z"),
        (NORM + GATHER, "float[n, 4] y, float[n, 6, 4] m"),
        (f"m, mean = LayerNormalization(x, s, t)\n{GATHER}", "float[n, 4] y, float[n, 6, 1] mean"),
        (f"m, mean = LayerNormalization(x, s, t)\n{GATHER}\nz = Neg(mean)", "float[n, 4] y, float[n, 6, 1] z"),
        (f"{NORM}y = Gather<axis = 2>(m, i)", "float[n, 6] y"),
        (f"{NORM}y = Gather<axis = -1>(m, i)", "float[n, 6] y"),
        (f"{NORM}y = Slice(m, one, two, two)", "float[n, 6, 1] y"),
        (f"{NORM}y = Slice(m, ones, twos, all)", "float[n, 1, 1] y"),
        (f"m = LayerNormalization<axis = 1>(x, w)\n{GATHER}", "float[n, 4] y"),
        (f"{NORM}y = Gather<axis = 1>(m, four)", "float[n, 4, 4] y"),
        (f"{NORM}y = Gather<axis = 0>(m, four)", "float[4, 6, 4] y"),
        (f"{NORM}y = Slice(m, one, six, one)", "float[n, 5, 4] y"),
        (f"r = Relu(x)\nm = Softmax(r)\n{GATHER}", "float[n, 4] y"),
    ],
    ids=[
        "another reader",
        "another selection",
        "an output",
        "the mean is an output",
        "the mean is used",
        "along the normalised axis",
        "along the last axis",
        "a slice of the normalised axis",
        "a slice of both",
        "more axes normalised",
        "four of six",
        "four of a dynamic dimension",
        "five of six",
        "no normalisation",
    ],
)
def test_refuses(body: str, outputs: str) -> None:
    more = {"two": _integers(2), "six": _integers(6), "four": _integers(0, 1, 2, 3)}
    both = {"ones": _integers(0, 0), "twos": _integers(1, 1), "all": _integers(1, 2)}
    assert unchanged(build(X, outputs, body, w=_floats(6, 4), **CONSTANTS, **more, **both), SelectBeforeNorm())


@pytest.mark.parametrize("dims", [(6, 4), (6, 1), (1, 1, 4)])
@pytest.mark.parametrize("name", ["s", "t"])
def test_refuses_a_scale_or_bias_that_has_the_selected_axis(name: str, dims: tuple[int, ...]) -> None:
    assert unchanged(
        build(X, "float[n, 4] y", NORM + GATHER, **{**CONSTANTS, name: _floats(*dims)}), SelectBeforeNorm()
    )


@pytest.mark.parametrize("name", ["b", "e", "a", "p"])
def test_refuses_a_slice_that_the_caller_may_change(name: str) -> None:
    proto = build(
        f"{X}, int64[1] {name}",
        "float[n, k, l] y",
        f"{NORM}y = Slice(m, b, e, a, p)",
        **{**CONSTANTS, "b": _integers(0), "e": _integers(1), "a": _integers(1), "p": _integers(1)},
    )
    assert unchanged(proto, SelectBeforeNorm())


def test_refuses_a_norm_outside_of_the_branch_that_selects() -> None:
    body = f"""
        {NORM}
        y = If(c) <
            then_branch = yes () => (float[n, 4] r) {{ r = Gather<axis = 1>(m, i) }},
            else_branch = no () => (float[n, 4] q) {{ q = Gather<axis = 1>(x, i) }}
        >
    """
    assert unchanged(build(f"{X}, bool[1] c", "float[n, 4] y", body, **CONSTANTS), SelectBeforeNorm())


def test_a_vision_transformer_ends_with_a_norm_of_one_token() -> None:
    torch.manual_seed(0)
    module = VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=20).eval()
    torch.nn.init.normal_(module.heads.head.weight, std=0.2)  # it is zero, and so would all answers be
    x = torch.randn(3, 3, 32, 32)
    model = import_model(module, (x,), batch="dynamic").model
    records = run_passes(model)
    assert [each.changed for each in records if each.name == "SelectBeforeNorm"] == [1]
    norms = [node for node in model.graph if node.op_type == "LayerNormalization"]
    ranks = [len(node.inputs[0].shape) for node in norms]
    assert ranks == [3, 3, 3, 3, 2]
    assert norms[-1].inputs[0].shape[1] == 32
    assert norms[-1].inputs[0].producer().op_type == "Gather"
    with torch.no_grad():
        want = module(x).numpy()
    (got,) = run(model, {model.graph.inputs[0].name: x.numpy()})
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
