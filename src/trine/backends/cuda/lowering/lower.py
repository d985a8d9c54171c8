"""From the portable graph to groups: read ``lower`` from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.fusion import fuse
from trine.backends.cuda.groups import Buffer, Expr, Group, Pointwise, View, contiguous_strides, with_views
from trine.backends.cuda.lowering.concatenation import Families, find_families, lower_concat
from trine.backends.cuda.lowering.cpu_parts import OUTSIDE, STAYS_OUTSIDE, CpuParts
from trine.backends.cuda.lowering.factored import Factored
from trine.backends.cuda.lowering.operators import HANDLERS
from trine.backends.cuda.lowering.schedule import Dataflow
from trine.backends.cuda.lowering.state import SAME, STORAGE, CannotLowerError, Lowering
from trine.backends.cuda.lowering.static_graph import StaticGraph, evaluate, load_static
from trine.backends.cuda.lowering.weights import Weights
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import ConfigError, UnsupportedError

__all__ = ["Lowered", "lower"]


_NEVER_CONSTANT = ("RandomNormal", "RandomUniform", "If", "Loop", "Scan")
_SHOWN = 20  # problems in the text of an error; all of them are in ``problems``


@dataclass(frozen=True)
class Lowered:
    """Groups in the order in which they run; the caller's buffers in the manifest's order; what the names of groups
    call the graph's nodes."""

    groups: list[Group]
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    nodes: frozenset[str] = frozenset()

    def nodes_of(self, group: Group) -> set[str]:
        """Those that a group came from, as its name tells."""
        found = set()
        for part in group.name.split(" + "):
            words = part.split(" ")
            candidates = (" ".join(words[:count]) for count in range(len(words), 0, -1))  # "conv1 copy" is of conv1
            found |= {next((name for name in candidates if name in self.nodes), "")}
        return found - {""}


def lower(
    portable: PortableGraph,
    rows: int,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    precision: str,
    *,
    fused: bool = True,
    cpu_fallback: bool = False,
    refused: Mapping[str, str] | None = None,
    weights: Weights | None = None,
) -> Lowered:
    """What the graph computes for calls of ``rows`` rows, at ``precision`` ("fp32", "tf32", "fp16", "bf16").

    Every shape is a number then. ``fused=False`` leaves one group for each operator, for people who look for a fault.
    ``cpu_fallback``: nodes without kernels become CpuGroups; ``refused``: more such nodes by name, with why.
    ``weights``: those of other numbers of rows, which are shared.
    Raises UnsupportedError that lists every node without kernels and why, or those that the CPU cannot be given;
    ConfigError for an unknown precision.
    """
    if precision not in STORAGE:
        raise ConfigError(f"precision {precision!r} is not one of the CUDA backend's: {', '.join(STORAGE)}")
    weights = Weights() if weights is None else weights
    static = load_static(portable, rows, inputs)
    refused = refused or {}
    walk = _Walk(Lowering(precision, static.opset, rows, weights), static, {}, inputs, outputs, refused)
    if walk.failed and cpu_fallback and any(node.op_type == "Attention" for node in walk.failed):
        # Perhaps only the pass that recognises attention wrote it, in an opset that the graph does not ask for.
        static = load_static(portable, rows, inputs, recognise=False)
        walk = _Walk(Lowering(precision, static.opset, rows, weights), static, {}, inputs, outputs, refused)
    while walk.failed and cpu_fallback:  # each time more nodes, and all of them at the last
        on_cpu = {**walk.on_cpu, **walk.failed}
        walk = _Walk(Lowering(precision, static.opset, rows, weights), static, on_cpu, inputs, outputs, refused)
    problems = [*_edge_problems(static, inputs, outputs, cpu_fallback), *walk.problems()]
    if problems:
        raise UnsupportedError(
            f"{len(problems)} nodes cannot run in the CUDA backend: {'; '.join(problems[:_SHOWN])}"
            f"{'; ...' if len(problems) > _SHOWN else ''}. Build for the CPU, or write these layers in other ways"
            f"{'' if cpu_fallback else '; cpu_fallback=True leaves nodes without kernels to the CPU'}",
            problems,
        )
    lowering = walk.lowering
    made = _give_outputs(lowering, static, outputs)
    groups = fuse(lowering.groups) if fused else lowering.groups
    stored: dict[Buffer, Buffer] = {}

    def as_stored(view: View) -> View:
        if view.buffer not in stored:
            stored[view.buffer] = weights.rounded(view.buffer)
        return replace(view, buffer=stored[view.buffer])

    groups = [with_views(group, as_stored) for group in groups]
    return Lowered(groups, walk.given, made, frozenset(map(_shown, static.graph)))


class _Walk:
    """One walk over the nodes. ``on_cpu``: those that the CPU is known to compute; ``failed``: others that cannot be
    lowered, with why. After a failure a group for the CPU stands for the node, so that the others are tried."""

    def __init__(
        self,
        lowering: Lowering,
        static: StaticGraph,
        on_cpu: Mapping[ir.Node, str],
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        refused: Mapping[str, str],
    ) -> None:
        self.lowering, self.static, self.on_cpu, self._refused_nodes = lowering, static, on_cpu, refused
        self.failed: dict[ir.Node, str] = {}
        self._follows: set[ir.Node] = set()  # of the failed those that only read what another left on the CPU
        self._refused: list[str] = []
        flow = Dataflow(static.graph)
        images = any(node.op_type in ("Conv", "MaxPool", "AveragePool", "BatchNormalization") for node in static.graph)
        self.given = _take_inputs(lowering, static, flow, on_cpu, inputs, images)
        self._wanted = {
            value: info for value, info in zip(static.graph.outputs, outputs, strict=True) if info.dtype not in OUTSIDE
        }
        self._cpu = CpuParts.of(lowering, static, flow, on_cpu, self.given, images)
        families = find_families(node for node in static.graph if node not in on_cpu)
        for cpu, nodes in flow.batches(on_cpu):
            if cpu:
                self._leave(nodes)
                continue
            for node in nodes:
                self._lower(node, families, flow)

    def problems(self) -> list[str]:
        """What failed of itself; where nothing did, what the CPU cannot be given."""
        direct = [node for node in self.failed if node not in self._follows]
        failed = [f"{node.name or node.outputs[0].name} ({node.op_type}): {self.failed[node]}" for node in direct]
        return failed or self._refused

    def _lower(self, node: ir.Node, families: Families, flow: Dataflow) -> None:
        lowering = self.lowering
        try:
            kept = next((value for value in flow.reads[node] if value in lowering.stays), None)
            if kept is not None:
                self._follows.add(node)
                raise CannotLowerError(f"it reads {kept.name!r}, which stays on the CPU: {lowering.stays[kept]}")
            reason = self._refused_nodes.get(_shown(node))
            if reason is not None:
                raise CannotLowerError(reason)
            wanted = next((self._wanted[value] for value in node.outputs if value in self._wanted), None)
            if wanted is not None:
                self._follows.add(node)
                raise CannotLowerError(f"output {wanted.name!r} is {wanted.dtype.value}, which has no kernels")
            _lower_node(lowering, self.static, node, families)
        except CannotLowerError as err:
            self.failed[node] = str(err)
            self._leave([node])

    def _leave(self, nodes: Sequence[ir.Node]) -> None:
        try:
            self._cpu.lower(nodes)
        except CannotLowerError as err:
            self._refused.append(f"{', '.join(f'{node.name} ({node.op_type})' for node in nodes)}: {err}")
            for node in nodes:
                for value in node.outputs:
                    self.lowering.values.pop(value, None)
                    self.lowering.stays.setdefault(value, str(err))


def _shown(node: ir.Node) -> str:
    """What groups call a node."""
    return node.name or node.op_type


def _lower_node(lowering: Lowering, static: StaticGraph, node: ir.Node, families: Families) -> None:
    """Raises CannotLowerError."""
    lowering.name = _shown(node)
    for value in node.inputs:
        if value is not None and value not in lowering.values and value in static.constants:
            lowering.values[value] = static.constants[value]
    known = [None if value is None else lowering.values[value] for value in node.inputs]
    constants = [each for each in known if each is None or isinstance(each, np.ndarray)]
    if len(constants) == len(known) and node.op_type not in _NEVER_CONSTANT:
        results = evaluate(node, static.opset, constants)
        lowering.values.update(zip(node.outputs, results, strict=False))
        return
    if node.op_type in ("Shape", "Size") and known[0] is not None:
        lowering.values[node.outputs[0]] = _shape_of(node, known[0].shape)
        return
    if node.domain:
        raise CannotLowerError(f"domain {node.domain!r} is unknown")
    made: list[View] | list[View | Factored]
    if node.op_type == "Concat":
        made = lower_concat(lowering, node, families)
    elif node.op_type in HANDLERS:
        made = HANDLERS[node.op_type](lowering, node)
    else:
        raise CannotLowerError("the operator has no kernels")
    lowering.values.update(zip(node.outputs, made, strict=False))


def _shape_of(node: ir.Node, shape: tuple[int, ...]) -> np.ndarray:
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
    return np.array(shape[start:end], np.int64)


def _edge_problems(
    static: StaticGraph, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], cpu_fallback: bool
) -> list[str]:
    """Inputs and outputs of types that no kernel takes or gives, nor, with ``cpu_fallback``, a node on the CPU."""
    taken = {*OUTSIDE, *STAYS_OUTSIDE} if cpu_fallback else set(OUTSIDE)
    pairs = zip(static.graph.outputs, outputs, strict=True)
    unmade = [info for value, info in pairs if not (cpu_fallback and value.producer() is not None)]
    return [
        f"{kind} {info.name!r} is {info.dtype.value}, which has no kernels"
        for kind, infos, known in (("input", inputs, taken), ("output", unmade, OUTSIDE))
        for info in infos
        if info.dtype not in known
    ]


def _take_inputs(
    lowering: Lowering,
    static: StaticGraph,
    flow: Dataflow,
    on_cpu: Mapping[ir.Node, str],
    infos: Sequence[TensorInfo],
    images: bool,
) -> tuple[Buffer, ...]:
    """The caller's inputs, each copied into storage type, channels-last where the network has ``images``. Those that
    only the CPU reads stay where they are."""
    buffers = []
    for value, info, shape in zip(static.graph.inputs, infos, static.inputs, strict=True):
        short = OUTSIDE.get(info.dtype) or STAYS_OUTSIDE.get(info.dtype, "fp32")
        buffer = Buffer(info.name, "input", short, math.prod(shape))
        buffers.append(buffer)
        if info.dtype not in OUTSIDE:
            lowering.stays[value] = f"{info.dtype.value} has no kernels"
            continue
        readers = flow.readers.get(value, ())
        if readers and all(node in on_cpu for node in readers) and value not in static.graph.outputs:
            continue
        lowering.name = f"input {info.name}"
        x = View(buffer, shape, contiguous_strides(shape))
        dtype = lowering.storage if info.dtype.is_floating else buffer.dtype
        y = lowering.new(shape, dtype, (0, 2, 3, 1) if len(shape) == 4 and images else None)
        by_rows = bool(info.shape) and not isinstance(info.shape[0], int)
        lowering.values[value] = lowering.emit(
            Pointwise(name=lowering.name, y=y, inputs=(x,), expr=SAME, by_rows=by_rows)
        )
    return tuple(buffers)


def _give_outputs(lowering: Lowering, static: StaticGraph, infos: Sequence[TensorInfo]) -> tuple[Buffer, ...]:
    """Copies into the caller's outputs, contiguous and in the type that the manifest says."""
    buffers = []
    for value, info in zip(static.graph.outputs, infos, strict=True):
        if value in lowering.for_caller:
            buffers.append(lowering.for_caller[value])
            continue
        found = lowering.of(value) if value in lowering.values else static.constants[value]
        lowering.name = f"output {info.name}"
        dtype = OUTSIDE.get(info.dtype, "fp32")
        if not isinstance(found, View):
            found = lowering.weight(found, info.name, None if found.dtype.kind in "iub" else "fp32")
        buffer = Buffer(info.name, "output", dtype, found.elements)
        buffers.append(buffer)
        y = View(buffer, found.shape, contiguous_strides(found.shape))
        by_rows = bool(info.shape) and not isinstance(info.shape[0], int)
        lowering.emit(Pointwise(name=lowering.name, y=y, inputs=(found,), expr=Expr("input"), by_rows=by_rows))
    return tuple(buffers)
