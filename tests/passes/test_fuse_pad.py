from __future__ import annotations

import numpy as np
import pytest
from pass_checks import build, op_types, optimised, unchanged

from trine.passes.fuse_pad import FusePad
from trine.passes.lift_constants import LiftConstants

PASSES = (LiftConstants(), FusePad())
WEIGHTS = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
X, Y = "float[n, 3, 8, 9] x", "float[n, 4, h, w] y"


def _pads(*amounts: int) -> str:
    return f"p = Constant<value_ints = [{', '.join(map(str, amounts))}]>()\n"


def _fused_pads(body: str, **constants: np.ndarray) -> list[int]:
    out = Y if constants else "float[n, 3, h, w] y"
    model = optimised(build(X, out, body, **constants), *PASSES)
    (node,) = model.graph
    return list(node.attributes["pads"].as_ints())


def test_adds_to_the_pads_of_a_convolution() -> None:
    body = _pads(0, 0, 1, 2, 0, 0, 3, 0) + "a = Pad(x, p)\n y = Conv<pads = [1, 0, 0, 1]>(a, w)"
    assert _fused_pads(body, w=WEIGHTS) == [2, 2, 3, 1]


def test_gives_pads_to_a_convolution_without() -> None:
    body = _pads(0, 0, 1, 1, 0, 0, 1, 1) + "a = Pad(x, p)\n y = Conv<strides = [2, 2]>(a, w)"
    assert _fused_pads(body, w=WEIGHTS) == [1, 1, 1, 1]


def test_reads_axes_and_replaces_valid() -> None:
    body = _pads(1, 2, 3, 4) + "ax = Constant<value_ints = [-1, 2]>()\n z = Constant<value_float = 0.0>()\n"
    body += 'a = Pad(x, p, z, ax)\n y = Conv<auto_pad = "VALID">(a, w)'
    assert _fused_pads(body, w=WEIGHTS) == [2, 1, 4, 3]


@pytest.mark.parametrize("own", ["", ", count_include_pad = 1, pads = [1, 0, 1, 0]"])
def test_average_pooling_counts_the_padding(own: str) -> None:
    body = _pads(0, 0, 1, 1, 0, 0, 1, 0) + f"a = Pad(x, p)\n y = AveragePool<kernel_shape = [3, 3]{own}>(a)"
    assert _fused_pads(body) == ([2, 1, 2, 0] if own else [1, 1, 1, 0])


ZEROS = _pads(0, 0, 1, 1, 0, 0, 1, 1)
CONV = "y = Conv(a, w)"


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (ZEROS + 'a = Pad<mode = "reflect">(x, p)', CONV),
        (ZEROS + 'a = Pad<mode = "edge">(x, p)', CONV),
        (ZEROS + "c = Constant<value_float = 1.0>()\n a = Pad(x, p, c)", CONV),
        (_pads(0, 0, -1, 1, 0, 0, 1, 1) + "a = Pad(x, p)", CONV),
        (_pads(1, 0, 1, 1, 0, 0, 1, 1) + "a = Pad(x, p)", CONV),
        (ZEROS + "a = Pad(x, p)", 'y = Conv<auto_pad = "SAME_UPPER">(a, w)'),
        (ZEROS + "a = Pad(x, p)\n e = Exp(a)\n s = ReduceMax<keepdims = 0>(e)", "c = Conv(a, w)\n y = Add(c, s)"),
    ],
    ids=["reflect", "edge", "ones", "crop", "batch", "same", "shared"],
)
def test_refuses(lines: str, last: str) -> None:
    assert unchanged(build(X, Y, f"{lines}\n {last}", w=WEIGHTS), *PASSES)


def test_refuses_padding_that_is_an_output() -> None:
    proto = build(X, f"{Y}, float[n, 3, 10, 11] a", f"{ZEROS} a = Pad(x, p)\n {CONV}", w=WEIGHTS)
    assert unchanged(proto, *PASSES)


def test_refuses_padding_that_is_an_input() -> None:
    proto = build(f"{X}, int64[8] p", Y, f"a = Pad(x, p)\n {CONV}", w=WEIGHTS)
    assert unchanged(proto, *PASSES)


@pytest.mark.parametrize(
    "pool",
    [
        "MaxPool<kernel_shape = [3, 3]>",
        "AveragePool<kernel_shape = [3, 3], ceil_mode = 1>",
        "AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>",
        "AveragePool<kernel_shape = [1, 1]>",
        "LpPool<kernel_shape = [3, 3]>",
    ],
)
def test_refuses_pools(pool: str) -> None:
    proto = build(X, "float[n, 3, h, w] y", f"{ZEROS} a = Pad(x, p)\n y = {pool}(a)")
    assert unchanged(proto, *PASSES)


def test_the_default_list_fuses_too() -> None:
    assert op_types(optimised(build(X, Y, f"{ZEROS} a = Pad(x, p)\n {CONV}", w=WEIGHTS))) == ["Conv"]
