"""Weights beside ONNX bytes, handed to the real backends from memory."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from engine_samples import COLUMNS, ROWS, W, expected, onnx_model, sample_graph
from onnx import TensorProto, helper, numpy_helper

from trine.dtypes import DataType
from trine.engine.portable_graph import PortableGraph, Weight, nbytes_of, weight_offsets
from trine.errors import ConfigError, UnsupportedError

X = np.random.default_rng(1).standard_normal((3, ROWS), dtype=np.float32)


def run_onnxruntime(model: bytes, options: onnxruntime.SessionOptions | None = None) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0]


def run_openvino(model: bytes) -> np.ndarray:
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(model), "CPU", config)
    return np.array(compiled(X)[0])


def ort_value(weight: Weight) -> onnxruntime.OrtValue:
    if weight.dtype.bits < 8 or weight.array.dtype.kind == "V":
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(weight.array, weight.dtype.onnx)
    return onnxruntime.OrtValue.ortvalue_from_numpy(weight.array)


def test_inline_runs_in_both_backends() -> None:
    model = sample_graph().inline()
    onnx.checker.check_model(onnx.load_from_string(model))
    np.testing.assert_allclose(run_onnxruntime(model), expected(X), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run_openvino(model), expected(X), rtol=1e-5, atol=1e-5)


def test_onnxruntime_takes_weights_as_external_initializers() -> None:
    graph = sample_graph()
    options = onnxruntime.SessionOptions()
    options.add_external_initializers([w.name for w in graph.weights], [ort_value(w) for w in graph.weights])
    result = run_onnxruntime(graph.external("weights"), options)
    np.testing.assert_allclose(result, expected(X), rtol=1e-5, atol=1e-5)


def test_onnxruntime_takes_weights_as_inputs_of_each_call() -> None:
    graph = sample_graph()
    session = onnxruntime.InferenceSession(graph.with_weights_as_inputs(), providers=["CPUExecutionProvider"])
    own, *weights = session.get_inputs()
    assert [weight.name for weight in weights] == [weight.name for weight in graph.weights]
    feeds = {own.name: X, **{weight.name: weight.array for weight in graph.weights}}
    np.testing.assert_allclose(session.run(None, feeds)[0], expected(X), rtol=1e-5, atol=1e-5)


def test_openvino_takes_weights_by_address() -> None:
    graph = sample_graph()
    np.testing.assert_allclose(run_openvino(graph.in_memory()), expected(X), rtol=1e-5, atol=1e-5)


def test_inline_packed_int4() -> None:
    """Two int4 to a byte, low nibble first, as ONNX packs them; both backends dequantise them right."""
    values = np.random.default_rng(2).integers(-8, 8, (ROWS, COLUMNS))
    flat = (values.reshape(-1) & 0xF).astype(np.uint8)
    packed = flat[0::2] | flat[1::2] << 4
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.25])
    graph = PortableGraph(onnx_model(nodes, [scale]), (Weight("q", DataType.INT4, (ROWS, COLUMNS), packed),))
    tensor = next(t for t in onnx.load_from_string(graph.inline()).graph.initializer if t.name == "q")
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.int64), values)
    wanted = X.astype(np.float64) @ (values * 0.25)
    options = onnxruntime.SessionOptions()
    # It fuses the two nodes, and the fused kernel rounds x to int8 unless told to compute in float32.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    np.testing.assert_allclose(run_onnxruntime(graph.inline(), options), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run_openvino(graph.inline()), wanted, rtol=1e-4, atol=1e-4)


def test_bfloat16_weights() -> None:
    nodes = [
        helper.make_node("Cast", ["w16"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    weight = Weight.from_array("w16", W.astype(ml_dtypes.bfloat16))
    assert weight.dtype is DataType.BFLOAT16
    graph = PortableGraph(onnx_model(nodes, []), (weight,))
    wanted = X.astype(np.float64) @ weight.array.astype(np.float64)
    np.testing.assert_allclose(run_onnxruntime(graph.inline()), wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run_openvino(graph.in_memory()), wanted, rtol=1e-4, atol=1e-4)


def test_external_positions_follow_one_another_aligned() -> None:
    weights = (
        Weight("a", DataType.INT8, (3,), np.zeros(3, np.uint8)),
        Weight.from_array("b", np.zeros((0, 2), np.float32)),
        Weight.from_array("c", np.zeros(17, np.float64)),
    )
    model = onnx.load_from_string(PortableGraph(onnx_model([], []), weights).external("blob"))
    entries = [{e.key: e.value for e in tensor.external_data} for tensor in model.graph.initializer]
    assert [(e["location"], e["offset"], e["length"]) for e in entries] == [
        ("blob", "0", "3"),
        ("blob", "64", "0"),
        ("blob", "64", "136"),
    ]
    assert weight_offsets([]) == [0]


@pytest.mark.parametrize("dtype", [dtype for dtype in DataType if dtype is not DataType.STRING])
def test_every_dtype_reaches_onnx_whole(dtype: DataType) -> None:
    shape = (3, 5)
    data = np.random.default_rng(3).integers(0, 2, nbytes_of(dtype, shape), np.uint8)
    weight = Weight("w", dtype, shape, data)
    tensor = onnx.load_from_string(PortableGraph(onnx_model([], []), (weight,)).inline()).graph.initializer[0]
    assert (tensor.data_type, tuple(tensor.dims), tensor.raw_data) == (dtype.onnx, shape, data.tobytes())
    if dtype.bits >= 8:
        assert weight.array.shape == shape
        assert weight.array.dtype == dtype.numpy
        assert np.shares_memory(weight.array, data)


def test_data_is_viewed_not_copied() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    weight = Weight.from_array("w", array)
    assert np.shares_memory(weight.data, array)
    assert weight.address == array.ctypes.data
    assert np.shares_memory(Weight("w", DataType.FLOAT32, (3, 4), memoryview(array)).data, array)  # type: ignore[arg-type]


def test_from_array_makes_strided_and_big_endian_arrays_plain() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(Weight.from_array("w", array.T).array, array.T)
    np.testing.assert_array_equal(Weight.from_array("w", array.astype(">f4")).array, array)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Weight("w", DataType.FLOAT32, (2,), np.zeros(7, np.uint8)), "got 7 bytes, wanted 8"),
        (lambda: Weight("w", DataType.INT4, (3,), np.zeros(3, np.uint8)), "wanted 2 for int4"),
        (lambda: Weight("w", DataType.STRING, (1,), np.zeros(1, np.uint8)), "keep it in the ONNX bytes"),
        (lambda: Weight("w", DataType.INT8, (2,), np.zeros(4, np.uint8)[::2]), "not contiguous"),
        (lambda: Weight.from_array("w", np.zeros(2, ml_dtypes.int4)), "pack its elements"),
    ],
)
def test_wrong_data_is_refused(make: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make()  # type: ignore[operator]


def test_inline_above_two_gib_says_what_to_do() -> None:
    rows = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**31,), (0,))  # no memory behind it
    weight = Weight("w", DataType.INT8, (0,), np.empty(0, np.uint8))
    object.__setattr__(weight, "data", rows)
    with pytest.raises(UnsupportedError, match=r"2\.00 GiB.*external"):
        PortableGraph(b"", (weight,)).inline()
