"""What a plan leaves to the CPU, in its header: read back and checked, every index and every size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trine.dtypes import DataType
from trine.engine.onnx_wire import check_self_contained
from trine.engine.portable_graph import nbytes_of
from trine.runtime.cuda.plan import CpuEdge, CpuPart, CpuStep

__all__ = ["parts_fields", "read_parts", "read_steps"]

Shapes = Sequence[tuple[tuple[int, ...] | None, str]]
Natural = Callable[..., int]


def parts_fields(parts: Sequence[CpuPart], keep: Callable[[bytes | memoryview], list[int]]) -> list[dict[str, Any]]:
    """For the header. ``keep`` puts bytes behind it; weights that several parts have are kept once."""
    places: dict[bytes, list[int]] = {}

    def once(data: bytes | memoryview) -> list[int]:
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest not in places:
            places[digest] = keep(data)
        return places[digest]

    return [
        {
            "model": keep(part.model),
            "weights": [[name, dtype, shape, once(data)] for name, dtype, shape, data in part.weights],
            "inputs": part.inputs,
            "outputs": part.outputs,
            "nodes": [dict(node) for node in part.nodes],
        }
        for part in parts
    ]


def read_parts(fields: Any, blob: Callable[[Any], memoryview], natural: Natural) -> tuple[CpuPart, ...]:
    """Raises ValueError and its like for anything that ``parts_fields`` does not write."""
    return tuple(_part(each, blob, natural) for each in fields)


def _part(fields: Mapping[str, Any], blob: Callable[[Any], memoryview], natural: Natural) -> CpuPart:
    model = bytes(blob(fields["model"]))
    check_self_contained(model)
    weights = []
    for name, kind, dims, place in fields["weights"]:
        dtype, shape, data = DataType(kind), tuple(natural(dim, 2**40) for dim in dims), blob(place)
        if dtype.bits < 8 or nbytes_of(dtype, shape) != len(data) or not data:
            raise ValueError(f"weight {name!r} has {len(data)} bytes for {kind} {list(shape)}")
        weights.append((str(name), dtype.value, shape, data))
    inputs, outputs = (
        tuple((str(name), DataType(dtype).value) for name, dtype in fields[which]) for which in ("inputs", "outputs")
    )
    nodes = tuple({key: str(node[key]) for key in ("name", "op", "reason")} for node in fields["nodes"])
    return CpuPart(model, tuple(weights), inputs, outputs, nodes)


def read_steps(
    fields: Any,
    parts: Sequence[CpuPart],
    counts: Mapping[str, int],
    edges: tuple[Shapes, Shapes],
    rows_vary: bool,
    natural: Natural,
) -> tuple[CpuStep, ...]:
    """A bucket's. ``counts``: how many rows, launches and groups it has, and bytes its arena; ``edges``: the plan's
    inputs and outputs. Raises ValueError and its like."""
    steps: list[CpuStep] = []
    slots: dict[int, str] = {}  # those that are filled by then, and with which element type
    for each in fields:
        part = parts[natural(each["part"], len(parts) - 1)]
        after = natural(each["after"], counts["launches"])
        if steps and after < steps[-1].after:
            raise ValueError(f"a step after {after} launches follows one after {steps[-1].after}")
        check = _Edges(counts, edges, rows_vary, slots, natural)
        inputs = tuple(check.input(edge, dtype) for edge, (_, dtype) in zip(each["inputs"], part.inputs, strict=True))
        outputs = tuple(
            check.output(edge, dtype) for edge, (_, dtype) in zip(each["outputs"], part.outputs, strict=True)
        )
        group = natural(each["group"], max(counts["groups"] - 1, 0))
        steps.append(CpuStep(natural(each["part"]), after, inputs, outputs, group))
    return tuple(steps)


class _Edges:
    """Checks where arrays lie, in one bucket."""

    def __init__(
        self,
        counts: Mapping[str, int],
        edges: tuple[Shapes, Shapes],
        rows_vary: bool,
        slots: dict[int, str],
        natural: Natural,
    ) -> None:
        self._counts, self._edges, self._rows_vary = counts, edges, rows_vary
        self._slots, self._natural = slots, natural

    def input(self, fields: Mapping[str, Any], dtype: str) -> CpuEdge:
        """What a part takes."""
        kind, number = fields["place"]
        natural = self._natural
        if kind == "slot":
            if self._slots.get(natural(number)) != dtype:
                raise ValueError(f"slot {number} holds {self._slots.get(number)}, the part takes {dtype}")
            return CpuEdge((kind, number))
        edge = self._placed(kind, number, fields["shape"], dtype, self._edges[0] if kind == "input" else None)
        rows = fields["rows"]
        if rows is None:
            return edge
        assert edge.shape is not None
        axis, factor = natural(rows[0], len(edge.shape) - 1), natural(rows[1])
        if factor * self._counts["rows"] != edge.shape[axis]:
            raise ValueError(f"axis {axis} of {edge.shape} is not {factor} times {self._counts['rows']} rows")
        return CpuEdge(edge.place, edge.shape, (axis, factor))

    def output(self, fields: Mapping[str, Any], dtype: str) -> CpuEdge:
        """What a part gives."""
        kind, number = fields["place"]
        if fields["rows"] is not None:
            raise ValueError(f"rows {fields['rows']} of an output")
        if kind == "slot":
            self._slots[self._natural(number, 2**20)] = dtype
            return CpuEdge((kind, number))
        return self._placed(kind, number, fields["shape"], dtype, self._edges[1] if kind == "output" else None)

    def _placed(self, kind: str, number: Any, dims: Any, dtype: str, callers: Shapes | None) -> CpuEdge:
        natural = self._natural
        shape = None if dims is None else tuple(natural(dim, 2**40) for dim in dims)
        if kind == "arena":
            if shape is None or DataType(dtype).bits < 8:
                raise ValueError(f"{dtype} of shape {shape} in the arena")
            natural(natural(number) + nbytes_of(DataType(dtype), shape), self._counts["arena"])
            return CpuEdge((kind, number), shape)
        if callers is None:
            raise ValueError(f"place {kind!r}")
        row, wanted = callers[natural(number, len(callers) - 1)]
        whole = (self._counts["rows"], *row) if row is not None and self._rows_vary else row
        if (shape, dtype) != (whole, wanted):
            raise ValueError(f"{kind} {number} is {wanted} {whole}, the part has {dtype} {shape}")
        return CpuEdge((kind, number), shape)
