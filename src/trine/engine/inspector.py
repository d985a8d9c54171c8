"""What is in an engine, as plain data for ``trine inspect``, its JSON and its HTML page.

Works on an engine that runs, and on a file's contents without compiling anything; needs neither torch nor onnx.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from trine.dtypes import DataType
from trine.engine.inspect_cuda import inspect_cuda_plans
from trine.engine.inspect_tensorrt import inspect_tensorrt
from trine.engine.manifest import Manifest, TensorInfo
from trine.engine.onnx_reader import GraphView, NodeView, TensorView, read_graph
from trine.engine.portable_graph import PortableGraph

__all__ = ["Inspectable", "inspect_engine"]

Dims = tuple[int | str, ...] | None


class Inspectable(Protocol):
    """What is needed of an engine: ``trine.Engine`` has it, and so has what ``read_engine`` returns."""

    @property
    def manifest(self) -> Manifest:
        """Names, shapes, provenance, evidence."""

    @property
    def graph(self) -> PortableGraph:
        """The portable graph and its weights."""

    @property
    def plans(self) -> Mapping[str, Any]:
        """Device plans, as bytes, by device."""


def inspect_engine(engine: Inspectable) -> dict[str, Any]:
    """Everything worth knowing about ``engine``, JSON-able.

    Keys: name, source, precision, created, versions, opsets, inputs, outputs, tactic, tactics, stages, passes,
    build, sizes, operators, layers, macs, macs_of, cuda, tensorrt, evidence. ``cuda`` and
    ``tensorrt`` are what inspect_cuda_plans and inspect_tensorrt say. ``macs`` are multiply-accumulates (a dynamic
    first dimension taken as 1, others at the profile's opt), and None for a layer of which they are not known;
    ``macs_of`` says of what: "row", or "call" where the number of rows is fixed. Integers are no parameters: they
    are shapes and indices.
    Raises EngineFormatError when the graph's or a CUDA plan's bytes are damaged.
    """
    manifest = engine.manifest
    view = read_graph(engine.graph.model)
    layers = _layers(engine, view)
    build = dict(manifest.build)
    tactics = _tactics(build.get("tactics", ()))
    weight_bytes = sum(len(weight.data) for weight in engine.graph.weights)
    return {
        "name": manifest.name,
        "source": manifest.source,
        "precision": manifest.precision,
        "created": manifest.created,
        "versions": dict(manifest.versions),
        "opsets": {domain or "ai.onnx": version for domain, version in view.opsets.items()},
        "inputs": [_interface(info, manifest) for info in manifest.inputs],
        "outputs": [_interface(info, manifest) for info in manifest.outputs],
        "tactic": next((tactic["name"] for tactic in tactics if tactic["chosen"]), None),
        "tactics": tactics,
        "stages": list(build.get("stages", ())),
        "passes": list(build.get("passes", ())),
        "build": {k: v for k, v in build.items() if k not in ("tactics", "stages", "passes")},
        "sizes": {
            "graph_bytes": len(engine.graph.model),
            "weight_bytes": weight_bytes,
            "plan_bytes": {name: len(plan) for name, plan in engine.plans.items()},
            "weights": len(engine.graph.weights),
            "parameters": _parameters(engine, view),
        },
        "operators": dict(Counter(layer["op"] for layer in layers).most_common()),
        "layers": layers,
        "macs": sum(layer["macs"] or 0 for layer in layers),
        "macs_of": "call" if any(_fixed_rows(info.shape) for info in manifest.inputs) else "row",
        "cuda": inspect_cuda_plans(engine.plans),
        "tensorrt": inspect_tensorrt(engine.plans),
        "evidence": dict(manifest.evidence) if manifest.evidence is not None else None,
    }


def _tactics(recorded: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As recorded, the chosen one first; one that was only slower gets that as its reason."""
    tactics = [
        {"chosen": False, "latency_ms": None, "options": {}, **t, "reasons": list(t.get("reasons", ()))}
        for t in recorded
    ]
    best = next((tactic["latency_ms"] for tactic in tactics if tactic["chosen"]), None)
    for tactic in tactics:
        if not tactic["chosen"] and not tactic["reasons"] and tactic["latency_ms"] and best:
            tactic["reasons"].append(f"slower: {tactic['latency_ms']:.3f} ms against {best:.3f} ms")
    return sorted(tactics, key=lambda t: (not t["chosen"], t["latency_ms"] or float("inf")))


def _interface(info: TensorInfo, manifest: Manifest) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": info.name, "dtype": info.dtype.value, "shape": list(info.shape)}
    if info.name in manifest.profile.ranges:
        shapes = manifest.profile.ranges[info.name]
        entry["profile"] = {"min": list(shapes.min), "opt": list(shapes.opt), "max": list(shapes.max)}
    return entry


def _weights(engine: Inspectable, view: GraphView) -> dict[str, TensorView]:
    """All initializers: the large ones, which lie beside the graph, and the small ones within it."""
    used = _used_names(engine, view)
    large = {used.get(w.name, w.name): (w.dtype.value, tuple(w.shape)) for w in engine.graph.weights}
    return {**view.initializers, **{name: TensorView(name, *what) for name, what in large.items()}}


def _used_names(engine: Inspectable, view: GraphView) -> dict[str, str]:
    """Of weights that are stored in another type, and cast first of all: what the layers call them."""
    large = {weight.name for weight in engine.graph.weights}
    return {node.inputs[0]: node.outputs[0] for node in view.nodes if node.op == "Cast" and node.inputs[0] in large}


def _parameters(engine: Inspectable, view: GraphView) -> int:
    return sum(_parameters_of(tensor) for tensor in _weights(engine, view).values())


def _parameters_of(tensor: TensorView) -> int:
    return 0 if tensor.dtype in ("int64", "bool") else _count(tensor.shape) or 0


def _bytes_within(tensor: TensorView) -> int:
    """The bytes of a small weight, which lies within the graph; 0 for integers, as they are no parameters."""
    known = tensor.dtype in DataType._value2member_map_ and tensor.dtype != DataType.STRING.value
    return _parameters_of(tensor) * DataType(tensor.dtype).bits // 8 if known else 0


def _fixed_rows(shape: Sequence[int | str]) -> bool:
    return bool(shape) and isinstance(shape[0], int) and shape[0] != 1


def _layers(engine: Inspectable, view: GraphView) -> list[dict[str, Any]]:
    weights = _weights(engine, view)
    used = _used_names(engine, view)
    stored = {used.get(weight.name, weight.name): len(weight.data) for weight in engine.graph.weights}
    inputs = {info.name for info in engine.manifest.inputs}
    outputs = {info.name for info in engine.manifest.outputs}
    interface = {
        info.name: TensorView(info.name, info.dtype.value, tuple(info.shape))
        for info in (*engine.manifest.inputs, *engine.manifest.outputs)
    }
    known = {**_renamed(view, engine.manifest), **interface, **weights}
    symbols = _one_row(engine.manifest)

    def describe(name: str) -> dict[str, Any]:
        tensor = known.get(name, TensorView(name))
        kind = "weight" if name in weights else "input" if name in inputs else "output" if name in outputs else ""
        shape = None if tensor.shape is None else list(tensor.shape)
        return {"name": name, "dtype": tensor.dtype, "shape": shape, "kind": kind or "activation"}

    layers = []
    for index, node in enumerate(node for node in view.nodes if used.keys().isdisjoint(node.inputs)):
        own = [name for name in node.inputs if name in weights]
        shapes = [known[name].shape if name in known else None for name in node.inputs]
        result = known[node.outputs[0]].shape if node.outputs and node.outputs[0] in known else None
        layers.append(
            {
                "index": index,
                "name": node.name or f"{node.op}_{index}",
                "op": node.op if not node.domain else f"{node.domain}.{node.op}",
                "inputs": [describe(name) for name in node.inputs if name],
                "outputs": [describe(name) for name in node.outputs if name],
                "attributes": dict(node.attributes),
                "parameters": sum(_parameters_of(weights[name]) for name in own),
                "weight_bytes": sum(stored.get(name, _bytes_within(weights[name])) for name in own),
                "macs": _macs(node, shapes, result, symbols),
            }
        )
    return layers


def _renamed(view: GraphView, manifest: Manifest) -> dict[str, TensorView]:
    """The graph's tensors, their dynamic dimensions called as the manifest calls them: "batch" may be "b" there."""
    names: dict[str, str] = {}
    for info in manifest.inputs:
        found = view.tensors.get(info.name, TensorView(info.name)).shape or ()
        for inner, outer in zip(found, info.shape, strict=False):
            if isinstance(inner, str) and isinstance(outer, str):
                names.setdefault(inner, outer)

    def rename(dim: int | str) -> int | str:
        return dim if isinstance(dim, int) else "*".join(names.get(factor, factor) for factor in dim.split("*"))

    return {
        name: tensor if tensor.shape is None else replace(tensor, shape=tuple(map(rename, tensor.shape)))
        for name, tensor in view.tensors.items()
    }


def _one_row(manifest: Manifest) -> dict[str, int]:
    """A size for each symbolic dimension: 1 for a first dimension, the profile's opt for others."""
    symbols: dict[str, int] = {}
    for info in manifest.inputs:
        shape_range = manifest.profile.ranges.get(info.name)
        for axis, dim in enumerate(info.shape):
            if isinstance(dim, str) and shape_range is not None and axis < len(shape_range.opt):
                symbols.setdefault(dim, 1 if axis == 0 else shape_range.opt[axis])
    return symbols


def _size(dim: int | str, symbols: Mapping[str, int]) -> int | None:
    """A dimension's size: a number, a symbol, or a product of these ("197*batch"); None when not known."""
    if isinstance(dim, int):
        return dim
    size = 1
    for factor in dim.split("*"):
        known = int(factor) if factor.isascii() and factor.isdigit() and len(factor) < 19 else symbols.get(factor)
        if known is None:
            return None
        size *= known
    return size


def _count(shape: Dims, symbols: Mapping[str, int] | None = None) -> int | None:
    """Elements of a tensor of ``shape``; None when a dimension is not known."""
    if shape is None:
        return None
    sizes = [_size(dim, symbols or {}) for dim in shape]
    return None if any(size is None for size in sizes) else math.prod(size for size in sizes if size is not None)


def _macs(node: NodeView, shapes: Sequence[Dims], result: Dims, symbols: Mapping[str, int]) -> int | None:
    """Multiply-accumulates of the layers that cost most; None for all others."""
    if len(shapes) < 2:
        return None
    left, right, out = shapes[0], shapes[1], _count(result, symbols)
    if node.op == "Conv" and right and out is not None and isinstance(right[0], int) and right[0] > 0:
        elements = _count(right)
        return None if elements is None else out * elements // right[0]
    if node.op == "ConvTranspose" and right and isinstance(right[0], int) and right[0] > 0:
        elements, inputs = _count(right), _count(left, symbols)
        return None if elements is None or inputs is None else inputs * elements // right[0]
    if node.op in ("MatMul", "Gemm", "FusedMatMul") and left and out is not None:
        depth = _size(left[0] if node.attributes.get("transA") else left[-1], symbols)
        return None if depth is None else out * depth
    if node.op == "Attention" and left and right and len(left) == len(right) == 4:
        query, keys = _count(left, symbols), _size(right[2], symbols)
        return None if query is None or keys is None or out is None else (query + out) * keys
    return None
