"""Bottlenecks: where a convolution and its expansion are one group, and where not."""

from __future__ import annotations

import numpy as np
import pytest
from backends.cuda.lowered import agrees, kinds
from pass_checks import build

from trine.backends.cuda.fusion import bottlenecks

RANDOM = np.random.default_rng(3)
BODY = "a = Conv<pads=[1,1,1,1]>(x, w, b)\nr = Relu(a)\nc = Conv(r, v)\nd = Add(c, s)\ny = Relu(d)"


def weights(*shape: int) -> np.ndarray:
    return (RANDOM.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


@pytest.fixture
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bottlenecks, "_FEWEST_PIXELS", 1)


def bottleneck(between: int = 32, body: str = BODY, y: str = "float y") -> object:
    return build(
        "float[n,32,6,5] x, float[n,64,6,5] s",
        y,
        body,
        w=weights(between, 32, 3, 3),
        b=weights(between),
        v=weights(64, between, 1, 1),
    )


@pytest.mark.usefixtures("few_pixels")
def test_a_convolution_takes_its_expansion() -> None:
    made = agrees(bottleneck(), precision="fp16", tolerance=4e-3)
    assert kinds(made)["ConvGemm"] == 1
    assert "Conv" not in kinds(made)
    assert "Gemm" not in kinds(made)


@pytest.mark.usefixtures("few_pixels")
def test_what_others_read_stays() -> None:
    made = agrees(bottleneck(body=BODY + "\nz = Sigmoid(r)", y="float y, float z"), precision="fp16", tolerance=4e-3)
    assert "ConvGemm" not in kinds(made)


@pytest.mark.usefixtures("few_pixels")
@pytest.mark.parametrize(("between", "precision", "tolerance"), [(48, "fp16", 4e-3), (32, "fp32", 1e-5)])
def test_odd_widths_and_fp32_stay(between: int, precision: str, tolerance: float) -> None:
    assert "ConvGemm" not in kinds(agrees(bottleneck(between), precision=precision, tolerance=tolerance))


def test_few_pixels_stay() -> None:
    assert "ConvGemm" not in kinds(agrees(bottleneck(), precision="fp16", tolerance=4e-3))
