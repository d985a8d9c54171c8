"""A CUDA plan whose large weights are the portable graph's own, so that the engine file holds them once.

    before   graph: w fp32 (64, 3, 7, 7)                    plan: 9,408 fp16 numbers in the order 0, 2, 3, 1; the rest
    after    graph: w_fp16 fp16 (64, 3, 7, 7), Cast to w    plan: "w_fp16 in the order 0, 2, 3, 1"; the rest

A weight is shared where the plan's bytes are those of the graph's weight, rounded to the plan's precision and with its
axes in another order; bytes are compared, so nothing changes on the GPU. What was rearranged otherwise (padded, folded
with another) stays in the plan. The plan for CPUs then computes with weights rounded to 16 bits, as the GPU does.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trine.dtypes import DataType
from trine.engine.portable_graph import PortableGraph, Weight
from trine.runtime.cuda.plan import WEIGHT_ALIGNMENT, CudaPlan, SharedWeight

__all__ = ["share_weights"]

_NARROW = {"fp16": DataType.FLOAT16, "bf16": DataType.BFLOAT16}
_LEAST_BYTES = 4096  # smaller ones are not worth an entry
_KEY = 64  # bytes by which places are looked up before everything is compared
_MAX_PLACES = 8  # with the same first bytes; more are runs of zeros


def share_weights(plan: CudaPlan, graph: PortableGraph) -> tuple[CudaPlan, PortableGraph]:
    """Both anew, together as good as before. ``plan`` holds all its weights; ``graph`` is the one it was made of."""
    whole = np.frombuffer(memoryview(plan.weights).cast("B"), np.uint8)
    if plan.shared or whole.nbytes % WEIGHT_ALIGNMENT or not whole.nbytes:
        return plan, graph
    narrow = _NARROW.get(plan.precision)
    arrays = (_rounded(weight, narrow) for weight in graph.weights)  # one at a time, and again below
    places = _places(whole, {key for array in arrays if array is not None for *_, key in _arranged(array)})
    taken = np.zeros(whole.nbytes // WEIGHT_ALIGNMENT, bool)
    shared, weights = [], []
    for weight in graph.weights:
        array = _rounded(weight, narrow)
        found = None if array is None else _find(weight, array, narrow, whole, places, taken)
        weights.append(weight if found is None else found[0])
        shared += [] if found is None else [found[1]]
    shared.sort(key=lambda each: each.offset)
    rest = whole.reshape(-1, WEIGHT_ALIGNMENT)[~taken].tobytes()
    renamed = {new.name: old.name for new, old in zip(weights, graph.weights, strict=True) if new is not old}
    return replace(plan, weights=rest, shared=tuple(shared)), PortableGraph(_with_casts(graph, renamed), tuple(weights))


def _rounded(weight: Weight, narrow: DataType | None) -> np.ndarray | None:
    """As it would be stored; None if it is not worth it."""
    if weight.dtype is not DataType.FLOAT32 or len(weight.shape) > 5:
        return None
    array = weight.array
    if narrow is not None:
        with np.errstate(over="ignore"):
            array = array.astype(narrow.numpy)
    return array if array.nbytes >= _LEAST_BYTES else None


def _places(whole: np.ndarray, keys: set[bytes]) -> dict[bytes, list[int]]:
    """Where the plan has one of ``keys``, which are the first bytes of what is looked for."""
    firsts = np.ascontiguousarray(whole.reshape(-1, WEIGHT_ALIGNMENT)[:, :_KEY])
    beginnings = np.array([key[:8] for key in keys], "V8").view(np.uint64)
    likely = np.flatnonzero(np.isin(firsts[:, :8].copy().view(np.uint64)[:, 0], beginnings))
    places: dict[bytes, list[int]] = defaultdict(list)
    for index in likely.tolist():
        key = firsts[index].tobytes()
        if len(places[key]) < _MAX_PLACES:
            places[key].append(index * WEIGHT_ALIGNMENT)
    return places


def _find(
    weight: Weight,
    array: np.ndarray,
    narrow: DataType | None,
    whole: np.ndarray,
    places: dict[bytes, list[int]],
    taken: np.ndarray,
) -> tuple[Weight, SharedWeight] | None:
    """The weight as it is to be stored, and where the plan has it. ``array``: as it is stored."""
    for shape, axes, offset in ((s, a, offset) for s, a, key in _arranged(array) for offset in places.get(key, ())):
        blocks = slice(offset // WEIGHT_ALIGNMENT, -(-(offset + array.nbytes) // WEIGHT_ALIGNMENT))
        if offset + array.nbytes > whole.nbytes or taken[blocks].any():
            continue
        arranged = np.ascontiguousarray(array.reshape(shape).transpose(axes)).reshape(-1).view(np.uint8)
        if np.array_equal(arranged, whole[offset : offset + array.nbytes]):
            taken[blocks] = True
            name = weight.name if narrow is None else f"{weight.name}__{narrow.value}"
            stored = weight if narrow is None else Weight.from_array(name, array)
            return stored, SharedWeight(offset, name, shape, axes, array.nbytes)
    return None


def _arranged(array: np.ndarray) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], bytes]]:
    """Shapes and orders of the axes, and the first bytes in that order."""
    count = _KEY // array.itemsize
    for shape in _shapes(array.shape):
        seen = array.reshape(shape)
        for axes in itertools.permutations(range(len(shape))):
            yield shape, axes, seen.transpose(axes).flat[:count].tobytes()


def _shapes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The shape; and of matrices those with an axis in two: behind a flattening, it is channels and pixels."""
    yield shape
    if len(shape) == 2:
        for axis, length in enumerate(shape):
            for part in (n for n in range(2, length) if length % n == 0):
                yield (*shape[:axis], length // part, part, *shape[axis + 1 :])


def _with_casts(graph: PortableGraph, renamed: dict[str, str]) -> bytes:
    """The model with ``renamed`` (stored name to the graph's own) cast back to fp32 at its beginning."""
    renamed = {stored: name for stored, name in renamed.items() if stored != name}
    if not renamed:
        return graph.model
    import onnx

    model = onnx.load_from_string(graph.model)
    casts = [
        onnx.helper.make_node("Cast", [stored], [name], name=stored, to=onnx.TensorProto.FLOAT)
        for stored, name in renamed.items()
    ]
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    return bytes(model.SerializeToString())
