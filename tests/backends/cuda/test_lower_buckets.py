"""What can be lowered, and what no tactic then takes: the CPU computes it."""

from __future__ import annotations

import numpy as np
import pytest
from backends.cuda.lowered import error
from backends.cuda.played import Played
from pass_checks import build

from trine.backends.cuda.choose import Chooser
from trine.backends.cuda.kernel_cache import KernelCache
from trine.backends.cuda.target import target_named
from trine.backends.cuda.tuning_cache import TuningCache


def asked() -> Chooser:
    """One that knows every tactic's limits, and makes nothing."""
    return Chooser(target_named("sm_90"), TuningCache(None, "", "sm_90"), KernelCache(None))


def weights(*shape: int) -> np.ndarray:
    return (np.random.default_rng(3).standard_normal(shape) * 0.3).astype(np.float32)


CASES = {
    "rows too long for registers": (
        "float[n,40000] x", "a = Relu(x)\nb = Softmax(a)\ny = Tanh(b)", "float[n,40000] y", {}, ["Softmax"],
    ),
    "products of integers": (
        "float[n,4] x", "a = Mul(x, ten)\nb = Cast <to = 6> (a)\nc = MatMul(b, m)\nd = Cast <to = 1> (c)\ny = Relu(d)",
        "float[n,4] y", {"ten": np.float32(10), "m": np.arange(16, dtype=np.int32).reshape(4, 4)}, ["MatMul"],
    ),
    "filters that are too large": (
        "float[n,2,13,13] x", "a = Relu(x)\nb = Conv <group = 2> (a, w)\ny = Tanh(b)", "float[n,2,2,2] y",
        {"w": weights(2, 1, 12, 12)}, ["Conv"],
    ),
    "an LSTM of too many units": (
        "float[n,3,4] x",
        "a = Transpose <perm = [1, 0, 2]> (x)\nb = LSTM <hidden_size = 300> (a, w, r)\n"
        "c = Transpose <perm = [2, 0, 1, 3]> (b)\ny = Relu(c)", "float[n,3,1,300] y",
        {"w": weights(1, 1200, 4), "r": weights(1, 1200, 300) / 4}, ["LSTM"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_no_tactic_takes_runs_on_the_cpu(name: str) -> None:
    inputs, body, outputs, constants, operators = CASES[name]
    proto = build(inputs, outputs, body, 20, **constants)
    played = Played(proto, (1, 4), refuses=asked().refusal)
    assert [op for step in played.on_cpu for op in step if op in operators] == operators
    assert all("no tactic for the " in part.nodes[0]["reason"] for part in played.plan.cpu_parts)
    shape = [int(dim.dim_value) for dim in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    for rows in (1, 3):
        x = np.random.default_rng(rows).standard_normal((rows, *shape)).astype(np.float32)
        assert error(played.answers(x)[0], played.wanted(x)[0]) <= 2e-6
    played.close()


def test_attention_that_is_too_wide_is_computed_piece_by_piece() -> None:
    """No kernel for attention has 300 numbers a head, but those for products and softmax do not mind."""
    body = "k = Transpose <perm = [0, 1, 3, 2]> (q)\ns = MatMul(q, k)\np = Softmax(s)\na = MatMul(p, q)\ny = Tanh(a)"
    proto = build("float[n,2,4,300] q", "float[n,2,4,300] y", body, 20)
    played = Played(proto, (2,), refuses=asked().refusal)
    q = np.random.default_rng(0).standard_normal((2, 2, 4, 300)).astype(np.float32) * 0.1
    assert error(played.answers(q)[0], played.wanted(q)[0]) <= 2e-6
    assert not played.plan.cpu_parts
    assert [group["kind"] for group in played.plan.buckets[0].groups if group["kind"] != "Pointwise"] == [
        "Gemm",
        "Softmax",
        "Gemm",
    ]
    played.close()


def test_where_there_is_a_tactic_nothing_is_refused() -> None:
    played = Played(build("float[n,4] x", "float[n,4] y", "y = Softmax(x)", 20), (1,), refuses=asked().refusal)
    assert not played.plan.cpu_parts
    assert "cpu" not in {group["tactic"] for group in played.plan.buckets[0].groups}
    played.close()
