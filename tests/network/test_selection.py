"""Gather, scatter, top-k, non-zero, one-hot, reversed sequences, boxes and fills, against NumPy and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from network_runs import answer, answers, finish, start

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network import Network

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)


def test_gather_by_default_along_an_axis() -> None:
    indices = np.array([[0, 3], [2, -1]], np.int32)
    network, (x, i) = start(x=X, i=indices)
    layer = network.add_gather(x, i, 0)
    layer.axis = 1
    np.testing.assert_array_equal(answer(network, layer, x=X, i=indices), np.take(X, indices, 1))


@pytest.mark.parametrize("axis", [1, 2])
def test_gather_batch_by_batch(axis: int) -> None:
    indices = RNG.integers(0, 4, (3, 2, 2))
    network, (x, i) = start(x=X, i=indices)
    layer = network.add_gather_v2(x, i, "DEFAULT")
    layer.axis, layer.num_elementwise_dims = axis, 1
    want = np.stack([np.take(row, index, axis - 1) for row, index in zip(X, indices, strict=True)])
    np.testing.assert_array_equal(answer(network, layer, x=X, i=indices), want)


def test_gather_elements_and_tuples() -> None:
    elements, tuples = RNG.integers(0, 3, (2, 4, 5)), RNG.integers(0, 3, (6, 2))
    network, (x, e, t) = start(x=X, e=elements, t=tuples)
    finish(network, network.add_gather_v2(x, e, "ELEMENT"))
    finish(network, network.add_gather_v2(x, t, "ND"))
    first, second = answers(network, {"x": X, "e": elements, "t": tuples})
    np.testing.assert_array_equal(first, np.take_along_axis(X, elements, 0))
    np.testing.assert_array_equal(second, X[tuples[:, 0], tuples[:, 1]])
    with pytest.raises(ConfigError, match="indices must be int32 or int64, got float32"):
        network.add_gather(x, x, 0)


def test_scatter() -> None:
    rows, updates = np.array([[2, 0, 1, 2, 0]], np.int32), RNG.standard_normal((1, 5)).astype(np.float32)
    data = X[0]
    network, (x, i, u) = start(x=data, i=rows, u=updates)
    finish(network, network.add_scatter(x, i, u, "ELEMENT"))
    tuples = network.add_constant(np.array([[1], [3]])).get_output(0)
    whole = network.add_constant(np.zeros((2, 5), np.float32)).get_output(0)
    finish(network, network.add_scatter(x, tuples, whole, "ND"))
    first, second = answers(network, {"x": data, "i": rows, "u": updates})
    want = data.copy()
    np.put_along_axis(want, rows.astype(np.int64), updates, 0)
    np.testing.assert_array_equal(first, want)
    want = data.copy()
    want[[1, 3]] = 0
    np.testing.assert_array_equal(second, want)


@pytest.mark.parametrize("op", ["MAX", "MIN"])
def test_top_k(op: str) -> None:
    network, (x,) = start(x=X)
    layer = network.add_topk(x, op, 2, 1 << 2)
    assert layer.get_output(1).dtype is DataType.INT32
    values, indices = answer(network, layer, x=X)
    order = np.argsort(X if op == "MIN" else -X, 2, kind="stable")[:, :, :2]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(X, order, 2))
    layer.axes, layer.indices_type = 1 << 1, "int64"
    assert (layer.get_output(1).shape, layer.get_output(1).dtype) == ((3, 2, 5), DataType.INT64)
    with pytest.raises(ConfigError, match=r"along one axis, got \[0, 1\]"):
        layer.axes = 3
    too_many = network.add_topk(x, op, 6, 1 << 2)
    with pytest.raises(ConfigError, match="k=6 is more than the 5 elements"):
        _ = too_many.get_output(0).shape
    with pytest.raises(ConfigError, match="indices_type is int32 or int64, got float32"):
        layer.indices_type = "float32"


def test_top_k_with_k_as_a_tensor() -> None:
    k = np.array(3, np.int32)
    network, (x, number) = start(x=X, k=k)
    layer = network.add_topk(x, "MAX", 1, 1 << 0)
    layer.set_input(1, number)
    values, _ = answer(network, layer, x=X, k=k)
    np.testing.assert_array_equal(values, -np.sort(-X, 0))


def test_non_zero_and_one_hot() -> None:
    array = np.array([[0, 2, 0], [3, 0, 4]], np.float32)
    network, (x,) = start(x=array)
    finish(network, network.add_non_zero(x))
    indices = network.add_constant(np.array([2, 0], np.int32)).get_output(0)
    values = network.add_constant(np.array([-1, 5], np.float32)).get_output(0)
    depth = network.add_constant(np.array(3, np.int64)).get_output(0)
    finish(network, network.add_one_hot(indices, values, depth, 0))
    places, vectors = answers(network, {"x": array})
    np.testing.assert_array_equal(places, np.array(np.nonzero(array)))
    np.testing.assert_array_equal(vectors, np.where(np.eye(3)[:, [2, 0]] == 1, 5, -1))
    with pytest.raises(ConfigError, match=r"wanted shape \(2,\), got"):
        network.add_one_hot(indices, x, depth, 0)


@pytest.mark.parametrize(("batch", "sequence"), [(1, 0), (0, 1), (0, 2), (2, 1)])
def test_reversed_sequences(batch: int, sequence: int) -> None:
    lengths = RNG.integers(1, X.shape[sequence] + 1, X.shape[batch]).astype(np.int32)
    network, (x, n) = start(x=X, n=lengths)
    layer = network.add_reverse_sequence(x, n)
    layer.batch_axis, layer.sequence_axis = 9, sequence
    layer.batch_axis = batch
    want = np.moveaxis(X, (batch, sequence), (0, 1)).copy()
    for row, length in zip(want, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    np.testing.assert_array_equal(answer(network, layer, x=X, n=lengths), np.moveaxis(want, (0, 1), (batch, sequence)))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.prod(np.maximum(high - low, 0))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def suppressed(boxes: np.ndarray, scores: np.ndarray, most: int, limit: float, least: float) -> list[list[int]]:
    """Non-maximum suppression as it is defined, one box at a time."""
    rows = []
    for batch in range(len(boxes)):
        found = []
        for kind in range(scores.shape[2]):
            kept: list[int] = []
            for box in np.argsort(-scores[batch, :, kind]):
                fits = all(overlap(boxes[batch, box], boxes[batch, other]) <= limit for other in kept)
                if scores[batch, box, kind] > least and fits and len(kept) < most:
                    kept.append(int(box))
            found += [[batch, kind, box] for box in kept]
        rows += sorted(found, key=lambda row: -scores[row[0], row[2], row[1]])
    return rows


@pytest.mark.parametrize("centered", [False, True])
def test_non_maximum_suppression(centered: bool) -> None:
    corners = RNG.random((2, 12, 2)) * 4
    sizes = RNG.random((2, 12, 2)) * 3 + 0.5
    boxes = np.concatenate([corners, corners + sizes], 2).astype(np.float32)
    given = np.concatenate([corners + sizes / 2, sizes], 2).astype(np.float32) if centered else boxes
    scores = RNG.random((2, 12, 3)).astype(np.float32)
    network, (b, s) = start(b=given, s=scores)
    layer = network.add_nms(b, s, network.add_constant(np.array(4, np.int32)).get_output(0))
    layer.set_input(3, network.add_constant(0.3).get_output(0))
    layer.set_input(4, network.add_constant(0.25).get_output(0))
    layer.bounding_box_format = "CENTER_SIZES" if centered else "CORNER_PAIRS"
    rows, count = answer(network, layer, b=given, s=scores)
    want = suppressed(boxes, scores, 4, 0.3, 0.25)
    assert rows.tolist() == want
    assert count == len(want)


def test_non_maximum_suppression_of_the_highest_scores_only() -> None:
    boxes = np.array([[[i, 0, i + 0.5, 1] for i in range(6)]], np.float32)
    scores = RNG.random((1, 6, 1)).astype(np.float32)
    network, (b, s) = start(b=boxes, s=scores)
    layer = network.add_nms(b, s, network.add_constant(np.array(9, np.int32)).get_output(0))
    layer.topk_box_limit = 2
    rows, count = answer(network, layer, b=boxes, s=scores)
    assert rows[:, 2].tolist() == np.argsort(-scores[0, :, 0])[:2].tolist()
    assert count == 2


def test_fills() -> None:
    network = Network()
    ramp = network.add_fill((4,), "LINSPACE")
    ramp.alpha, ramp.beta = 1, 0.5
    finish(network, ramp)
    whole = network.add_fill((2, 3), "LINSPACE", "int32")
    whole.set_input(1, network.add_constant(np.array(5, np.int32)).get_output(0))
    with pytest.raises(ConfigError, match="come together or not at all"):
        _ = whole.get_output(0).shape
    whole.set_input(2, network.add_constant(np.array([10, 1], np.int32)).get_output(0))
    finish(network, whole)
    first, second = answers(network, {})
    np.testing.assert_allclose(first, [1, 1.5, 2, 2.5])
    np.testing.assert_array_equal(second, [[5, 6, 7], [15, 16, 17]])


def test_random_fills() -> None:
    network = Network(opset=21)
    random: list[Any] = [network.add_fill((50, 40), op) for op in ("RANDOM_UNIFORM", "RANDOM_NORMAL")]
    for layer in random:
        layer.alpha, layer.beta = 2, 6
        finish(network, layer)
    uniform, normal = answers(network, {})
    assert 2 <= uniform.min() < 2.2
    assert 5.8 < uniform.max() <= 6
    assert abs(normal.mean() - 2) < 1
    assert abs(normal.std() - 6) < 1
    with pytest.raises(
        ConfigError, match=r"random operators of ONNX opset 23; make the network with Network\(name, opset=21"
    ):
        Network().add_fill((2,), "RANDOM_NORMAL")


def test_constants_come_from_anything() -> None:
    torch = pytest.importorskip("torch")
    network = Network()
    for given, dtype, shape in [
        (np.ones((2, 3), np.float16), DataType.FLOAT16, (2, 3)),
        (torch.ones(3, dtype=torch.bfloat16), DataType.BFLOAT16, (3,)),
        (torch.nn.Parameter(torch.ones(3)), DataType.FLOAT32, (3,)),
        (2.0, DataType.FLOAT32, ()),
        (2, DataType.INT64, ()),
        ([1, 2], DataType.INT64, (2,)),
    ]:
        tensor = network.add_constant(given).get_output(0)
        assert (tensor.dtype, tensor.shape) == (dtype, shape)
    shaped = network.add_constant((2, 2), np.arange(4, dtype=np.float32))
    np.testing.assert_array_equal(answer(network, shaped), [[0, 1], [2, 3]])
    with pytest.raises(ConfigError, match="an array of numbers, got"):
        network.add_constant(object())
    with pytest.raises(ConfigError, match=r"4 weights do not fill the shape \(3, 2\)"):
        network.add_constant((3, 2), np.arange(4, dtype=np.float32))
