"""Weights that a plan shares with the portable graph: what lies on the device stays the same, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, X, Y, plan

from trine.backends.cuda.shared_weights import share_weights
from trine.engine.portable_graph import PortableGraph, Weight
from trine.errors import EngineFormatError
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.plan import CudaPlan
from trine.runtime.cuda.plan_bytes import plan_from_bytes, plan_to_bytes

SHAPE = {"w": (16, 3, 7, 7), "m": (64, 40), "b": (16,)}


def graph_of(seed: int = 0) -> PortableGraph:
    """y = MatMul(GlobalAveragePool(Conv(x, w, b)), ...); the matrix is used as it is."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("MatMul", ["z", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 64]),
        ],
        [
            helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 16, 2, 2]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 40]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    rng = np.random.default_rng(seed)
    weights = [Weight.from_array(name, rng.standard_normal(shape, np.float32)) for name, shape in SHAPE.items()]
    return PortableGraph(model.SerializeToString(), tuple(weights))


def blob(*arrays: np.ndarray) -> bytes:
    """Weights as the builder lays them out."""
    return b"".join(array.tobytes() + bytes(-array.nbytes % 256) for array in arrays)


def arrays_of(graph: PortableGraph) -> dict[str, np.ndarray]:
    return {weight.name: weight.array for weight in graph.weights}


def on_device(shared: CudaPlan, graph: PortableGraph) -> bytes:
    """What the executor puts on the device, of a plan that was written and read."""
    driver = RecordingDriver(STAND_INS)
    read = plan_from_bytes(plan_to_bytes(shared))
    executor = CudaExecutor(read, (X,), (Y,), driver=driver, graph=graph)
    return driver.array(executor.weights, np.uint8, read.weight_bytes).tobytes()


def test_fp16_weights_in_another_order_are_shared() -> None:
    graph = graph_of()
    given = arrays_of(graph)
    own = np.arange(300, dtype=np.float32)
    kernel = np.ascontiguousarray(given["w"].transpose(0, 2, 3, 1).astype(np.float16))
    whole = replace(plan(), precision="fp16", weights=blob(own, kernel, own + 1, given["m"].T.astype(np.float16), own))
    shared, stored = share_weights(whole, graph)
    assert [(each.name, each.axes) for each in shared.shared] == [("w__float16", (0, 2, 3, 1)), ("m__float16", (1, 0))]
    assert len(shared.weights) == 3 * 1280  # what is not the graph's
    assert shared.weight_bytes == len(whole.weights)
    assert on_device(shared, stored) == whole.weights
    assert {weight.name: weight.dtype.value for weight in stored.weights} == {
        "w__float16": "float16",
        "m__float16": "float16",
        "b": "float32",
    }


def test_a_matrix_behind_a_flattening_is_shared() -> None:
    """Of 64 inputs that are 4 channels of 16 pixels, in the order of the pixels."""
    graph = graph_of()
    matrix = arrays_of(graph)["m"].astype(np.float16)
    arranged = np.ascontiguousarray(matrix.reshape(4, 16, 40).transpose(1, 0, 2))
    whole = replace(plan(), precision="fp16", weights=blob(arranged))
    shared, stored = share_weights(whole, graph)
    assert [(each.shape, each.axes) for each in shared.shared] == [((4, 16, 40), (1, 0, 2))]
    assert on_device(shared, stored) == whole.weights


def test_the_graph_computes_with_rounded_weights() -> None:
    graph = graph_of()
    given = arrays_of(graph)
    whole = replace(
        plan(), precision="fp16", weights=blob(given["w"].astype(np.float16), given["m"].astype(np.float16))
    )
    _, stored = share_weights(whole, graph)
    onnx.checker.check_model(onnx.load_from_string(stored.inline()), full_check=True)
    feeds = {
        "x": np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32),
        "z": np.random.default_rng(2).standard_normal((2, 64), np.float32),
    }
    rounded = PortableGraph(
        graph.model,
        tuple(
            Weight.from_array(name, array.astype(np.float16).astype(np.float32) if array.ndim > 1 else array)
            for name, array in given.items()
        ),
    )
    for ours, theirs in zip(run(stored, feeds), run(rounded, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def run(graph: PortableGraph, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return ort.InferenceSession(graph.inline(), providers=["CPUExecutionProvider"]).run(None, feeds)


def test_fp32_weights_are_shared_and_the_graph_is_left_alone() -> None:
    graph = graph_of()
    whole = replace(plan(), weights=blob(arrays_of(graph)["m"]))
    shared, stored = share_weights(whole, graph)
    assert [each.name for each in shared.shared] == ["m"]
    assert (stored.model, len(shared.weights)) == (graph.model, 0)
    assert on_device(shared, stored) == whole.weights


def test_what_is_not_the_same_bytes_stays() -> None:
    graph = graph_of()
    other = arrays_of(graph)["m"].astype(np.float16)
    other[-1, -1] += 1
    whole = replace(plan(), precision="fp16", weights=blob(other))
    shared, stored = share_weights(whole, graph)
    assert shared == whole
    assert stored.model == graph.model


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["w", "m", "b", "own"]), min_size=1, max_size=6), st.sampled_from(["fp32", "fp16", "bf16"])
)
def test_any_mixture_is_the_same_on_the_device(names: list[str], precision: str) -> None:
    graph = graph_of(3)
    dtype = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16)}.get(precision)
    if dtype is None:
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    given = {name: array.astype(dtype) for name, array in arrays_of(graph).items()} | {"own": np.arange(99.0)}
    parts = [np.ascontiguousarray(given[name].T if index % 2 else given[name]) for index, name in enumerate(names)]
    whole = replace(plan(), precision=precision, weights=blob(*parts))
    shared, stored = share_weights(whole, graph)
    assert len(shared.shared) == len({"w", "m"} & set(names))
    assert on_device(shared, stored) == whole.weights


def test_a_graph_without_what_is_shared_is_damaged() -> None:
    graph = graph_of()
    shared, _ = share_weights(replace(plan(), weights=blob(arrays_of(graph)["m"])), graph)
    for other in (None, PortableGraph(graph.model, ())):
        with pytest.raises(EngineFormatError, match="weight 'm' of 10240 bytes is not the graph's"):
            CudaExecutor(shared, (X,), (Y,), driver=RecordingDriver(STAND_INS), graph=other)
