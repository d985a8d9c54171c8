"""Layers' times: every layer of the graph is there, and they add up to no more than the call took."""

from __future__ import annotations

import time

import numpy as np
import pytest

import trine
from trine.network import Network
from trine.runtime.layer_times import LayerTimes


def network() -> Network:
    """Two matrix products and a sum over them: y (256, 256) of x (256, 256)."""
    made = Network()
    x = made.add_input("x", "float32", (256, 256))
    rng = np.random.default_rng(0)
    for name in ("first", "second"):
        weights = made.add_constant((256, 256), rng.standard_normal((256, 256)).astype(np.float32)).get_output(0)
        layer = made.add_matrix_multiply(x, "NONE", weights, "NONE")
        layer.name = name
        x = layer.get_output(0)
    x.name = "y"
    made.mark_output(x)
    return made


@pytest.mark.parametrize("tactic", ["openvino", "onnxruntime"])
def test_both_products_are_timed_and_the_answer_is_the_engines(tactic: str) -> None:
    engine = trine.build(network(), tactics=(tactic,))
    assert engine.tactic == tactic
    times = LayerTimes(engine)
    assert times.last == []
    x = np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)
    begin = time.perf_counter()
    answer = times.execute({"x": x})["y"]
    took_ms = (time.perf_counter() - begin) * 1e3
    np.testing.assert_allclose(answer, engine(x), rtol=1e-4, atol=1e-3)
    found = times.last
    assert len(found) >= 2
    assert sum(milliseconds > 0 for _, milliseconds in found) >= 2
    assert sum(milliseconds for _, milliseconds in found) <= took_ms
    times.execute({"x": x})
    assert [name for name, _ in times.last] == [name for name, _ in found]  # of one call, not of all
