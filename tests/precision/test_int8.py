"""INT8: ranges from what is seen, pairs where products are, and answers near those of the model before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from trine.errors import ConfigError, UnsupportedError
from trine.precision.int8 import calibrate, is_quantized, products, with_pairs
from trine.precision.ranges import METHODS, SeenRange


def model(opset: int = 21) -> onnx.ModelProto:
    """A convolution, a pool over everything and a Gemm: (N, 3, 8, 8) to (N, 5)."""
    rng = np.random.default_rng(0)
    weights = {
        "cw": rng.standard_normal((4, 3, 3, 3), np.float32) * np.array([0.1, 1, 5, 0], np.float32).reshape(4, 1, 1, 1),
        "cb": rng.standard_normal(4, np.float32),
        "gw": rng.standard_normal((5, 4), np.float32),
        "gb": rng.standard_normal(5, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "cw", "cb"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "gw", "gb"], ["y"], transB=1),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def batches() -> list[dict[str, np.ndarray]]:
    """Three of four pictures."""
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((4, 3, 8, 8), np.float32)} for _ in range(3)]


@pytest.mark.parametrize("method", METHODS)
def test_answers_stay_near(method: str) -> None:
    source = model()
    amax = calibrate(source, batches(), method)
    assert set(amax) == {"x", "f"}
    made = with_pairs(source, amax)
    onnx.checker.check_model(made)
    assert is_quantized(made)
    assert not is_quantized(source)
    assert "cw" not in {tensor.name for tensor in made.graph.initializer}
    x = batches()[0]
    want, got = (ReferenceEvaluator(each).run(None, x)[0] for each in (source, made))
    error = np.abs(got - want).max() / np.abs(want).max()
    assert 0 < error < 0.05


def test_each_channel_of_weights_has_its_own_scale() -> None:
    made = with_pairs(model(), {"x": 1.0, "f": 1.0})
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in model().graph.initializer}["cw"]
    assert arrays["cw/0/int8"].dtype == np.int8
    back = arrays["cw/0/int8"].astype(np.float32) * arrays["cw/0/scale"].reshape(-1, 1, 1, 1)
    step = np.abs(original).max(axis=(1, 2, 3), keepdims=True) / 127
    assert (np.abs(back - original) <= step / 2 + 1e-7).all()
    assert arrays["x/scale"] == np.float32(1 / 127)


def test_only_products_with_constant_weights() -> None:
    assert [product.node for product in products(model())] == [0, 4]


def test_mistakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="no batches"):
        calibrate(model(), [], "minmax")
    with pytest.raises(UnsupportedError, match="opset 13"):
        with_pairs(model(12), {"x": 1.0})
    with pytest.raises(ConfigError, match="NaN"):
        calibrate(model(), [{"x": np.full((1, 3, 8, 8), np.nan, np.float32)}], "minmax")


def test_ranges_cut_outliers_or_not() -> None:
    rng = np.random.default_rng(2)
    values = rng.standard_normal(100_000).astype(np.float32)
    seen = SeenRange()
    for part in np.split(values, 10):
        seen.observe(part)
    seen.observe(np.array([100.0], np.float32))
    assert seen.amax("minmax") == 100.0
    assert np.quantile(np.abs(values), 0.9998) <= seen.amax("percentile") < 6
    assert 2 < seen.amax("entropy") < 20
    flat = SeenRange()
    flat.observe(np.linspace(-1, 1, 100_001, dtype=np.float32))
    assert flat.amax("entropy") > 0.95
    nothing = SeenRange()
    nothing.observe(np.zeros(3, np.float32))
    assert nothing.amax("entropy") == 0
