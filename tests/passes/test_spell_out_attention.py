from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.spell_out_attention import SpellOutAttention

INPUTS = "float[n, 2, 5, 8] q, float[n, 2, 7, 8] k, float[n, 2, 7, 6] v"
Y = "float[n, 2, 5, 6] y"
SPELLED = ["Mul", "Transpose", "MatMul", "Softmax", "MatMul"]


@pytest.mark.parametrize(
    "attributes", ["", "<scale = 0.4>", "<is_causal = 0, softcap = 0.0, qk_matmul_output_mode = 0>"]
)
def test_spells_out(attributes: str) -> None:
    assert op_types(optimised(build(INPUTS, Y, f"y = Attention{attributes}(q, k, v)"), SpellOutAttention())) == SPELLED


def test_without_scale() -> None:
    proto = build(INPUTS, Y, "y = Attention<scale = 1.0>(q, k, v)")
    assert op_types(optimised(proto, SpellOutAttention())) == SPELLED[1:]


@pytest.mark.parametrize("shape", ["n, 2, 5, 7", "1, 1, 5, 7"])
def test_mask(shape: str) -> None:
    proto = build(f"{INPUTS}, float[{shape}] m", Y, "y = Attention(q, k, v, m)")
    assert op_types(optimised(proto, SpellOutAttention())) == [*SPELLED[:3], "Add", *SPELLED[3:]]


def test_the_default_list_merges_the_transposes_of_the_keys() -> None:
    body = """
        i = Transpose<perm = [0, 2, 1, 3]>(q)
        j = Transpose<perm = [0, 2, 1, 3]>(k)
        l = Transpose<perm = [0, 2, 1, 3]>(v)
        y = Attention(i, j, l)
    """
    proto = build("float[n, 5, 2, 8] q, float[n, 7, 2, 8] k, float[n, 7, 2, 6] v", Y, body)
    model = optimised(proto)
    assert sorted(op_types(model)) == sorted(["Transpose"] * 3 + ["Mul", "MatMul", "Softmax", "MatMul"])


def test_the_default_list_keeps_a_spelled_out_attention_in_this_form() -> None:
    body = """
        t = Transpose<perm = [0, 1, 3, 2]>(k)
        a = MatMul(q, t)
        s = Div(a, c)
        p = Softmax<axis = 3>(s)
        y = MatMul(p, v)
    """
    assert op_types(optimised(build(INPUTS, Y, body, c=np.float32(2.5)))) == SPELLED


@pytest.mark.parametrize("attributes", ["<is_causal = 1>", "<softcap = 2.0>", "<softmax_precision = 1>"])
def test_refuses_other_attention(attributes: str) -> None:
    assert unchanged(build(INPUTS, Y, f"y = Attention{attributes}(q, k, v)"), SpellOutAttention())


def test_refuses_three_dimensions() -> None:
    inputs = "float[n, 5, 16] q, float[n, 7, 16] k, float[n, 7, 12] v"
    body = "y = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v)"
    assert unchanged(build(inputs, "float[n, 5, 12] y", body), SpellOutAttention())


def test_refuses_shared_heads() -> None:
    inputs = "float[n, 4, 5, 8] q, float[n, 2, 7, 8] k, float[n, 2, 7, 6] v"
    assert unchanged(build(inputs, "float[n, 4, 5, 6] y", "y = Attention(q, k, v)"), SpellOutAttention())


def test_refuses_a_mask_of_booleans_or_another_shape() -> None:
    for mask in ("bool[5, 7] m", "bool[n, 2, 5, 7] m", "float[5, 7] m"):
        assert unchanged(build(f"{INPUTS}, {mask}", Y, "y = Attention(q, k, v, m)"), SpellOutAttention())


def test_refuses_past_keys_and_more_outputs() -> None:
    inputs = f"{INPUTS}, float[n, 2, 3, 8] pk, float[n, 2, 3, 6] pv"
    outputs = f"{Y}, float[n, 2, 10, 8] nk, float[n, 2, 10, 6] nv"
    assert unchanged(build(inputs, outputs, "y, nk, nv = Attention(q, k, v, , pk, pv)"), SpellOutAttention())


def test_refuses_other_types_and_dynamic_heads() -> None:
    for kind in ("double", "float16"):
        other = (INPUTS.replace("float", kind), Y.replace("float", kind))
        assert unchanged(build(*other, "y = Attention(q, k, v)"), SpellOutAttention())
    dynamic = (INPUTS.replace("n, 2", "n, h"), Y.replace("n, 2", "n, h"))
    assert unchanged(build(*dynamic, "y = Attention(q, k, v)"), SpellOutAttention())
