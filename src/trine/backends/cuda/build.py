"""From the portable graph to a CudaPlan: lower, choose, place, record. Read ``build_cuda_plan`` from top to bottom."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trine.backends.cuda.choose import Choice, Chooser
from trine.backends.cuda.cost import floor_us, least_bytes, operations
from trine.backends.cuda.cpu_group import CpuGroup
from trine.backends.cuda.cpu_records import CpuRecorder, cpu_parts, only_cpu
from trine.backends.cuda.dependent_launch import weight_to_fetch
from trine.backends.cuda.groups import ITEM_BYTES, Buffer, View
from trine.backends.cuda.kernel_cache import kernel_key
from trine.backends.cuda.lower_buckets import lower_buckets
from trine.backends.cuda.lowering import Lowered
from trine.backends.cuda.memory_plan import Placement, plan_memory
from trine.backends.cuda.records import tensor_map_record
from trine.backends.cuda.tactic import Argument, Launch, Pointer, Rows, Scalar, Scratch, TensorMap
from trine.backends.cuda.target import Target
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import UnsupportedError
from trine.runtime.cuda.cpu_parts import open_part
from trine.runtime.cuda.plan import WEIGHT_ALIGNMENT, Bucket, CpuStep, CudaPlan, Kernel, LaunchRecord
from trine.versions import installed_versions

__all__ = ["Built", "bucket_sizes", "build_cuda_plan"]


@dataclass(frozen=True)
class Built:
    """A plan; ``refused``: nodes that the CPU computes as no tactic takes what they are lowered to: name, and why."""

    plan: CudaPlan
    refused: Mapping[str, str]


def bucket_sizes(least: int, opt: int, most: int) -> tuple[int, ...]:
    """Powers of two between the profile's ends, and its opt and max. A call uses the smallest that holds its rows."""
    powers = {2**n for n in range(most.bit_length()) if least <= 2**n <= most}
    return tuple(sorted(powers | {opt, most}))


def build_cuda_plan(
    graph: PortableGraph,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    rows: Sequence[int],
    precision: str,
    target: Target,
    chooser: Chooser,
    *,
    rows_vary: bool = True,
    cpu_fallback: bool = True,
    on_stage: Callable[[str], None] | None = None,
) -> Built | None:
    """Compile ``graph`` for every number of rows in ``rows``. None where the GPU would have nothing to compute.

    ``cpu_fallback``: operators that have no CUDA form are left to the CPU. Raises UnsupportedError that lists them
    otherwise, and for what the CPU cannot be given; BuildError for a group that no tactic can run, and for operators
    that the CPU cannot compute either.
    """
    say = on_stage or (lambda text: None)
    lowered, refused = lower_buckets(graph, inputs, outputs, rows, precision, chooser, cpu_fallback, say)
    if all(only_cpu(each.groups) for each in lowered.values()):
        return None
    given = _row_shapes(outputs, lowered[rows[-1]], rows_vary)
    for part in {id(part): part for each in lowered.values() for part in cpu_parts(each.groups)}.values():
        open_part(part, threads=0).close()  # what the CPU refuses is said before minutes of tuning
    kernel_groups = {
        count: [group for group in each.groups if not isinstance(group, CpuGroup)] for count, each in lowered.items()
    }
    choices = chooser.choose(kernel_groups, say)
    recorder = _Recorder(target, chooser.kernels, CpuRecorder(timed=chooser.timer is not None))
    buckets = tuple(recorder.bucket(count, lowered[count], choices[count]) for count in rows)
    plan = CudaPlan(
        target=target.name,
        precision=precision,
        kernels=tuple(recorder.kernels),
        buckets=buckets,
        weights=recorder.weight_bytes(),
        inputs=tuple(_row_shape(info, rows_vary) for info in inputs),
        outputs=given,
        rows_vary=rows_vary,
        versions=installed_versions(["trine", "triton"]),
        device_name=chooser.device_name,
        cpu_parts=tuple(recorder.cpu.parts),
    )
    return Built(plan, refused)


def _row_shape(info: TensorInfo, rows_vary: bool) -> tuple[tuple[int, ...], str]:
    shape = info.shape[1:] if rows_vary else info.shape
    unknown = [dim for dim in shape if not isinstance(dim, int)]
    if unknown:
        raise UnsupportedError(
            f"{info.name!r} has the shape {list(info.shape)}: a CUDA engine has to know {unknown} when it is built. "
            "Fix the inputs' shapes with shapes=, or build for the CPU"
        )
    return tuple(int(dim) for dim in shape), info.dtype.value


def _row_shapes(
    infos: Sequence[TensorInfo], lowered: Lowered, rows_vary: bool
) -> tuple[tuple[tuple[int, ...] | None, str], ...]:
    """As CudaPlan has them. Raises UnsupportedError where rows vary and the shape of an output depends on values."""
    made: list[tuple[tuple[int, ...] | None, str]] = []
    for info, buffer in zip(infos, lowered.outputs, strict=True):
        if buffer.kind != "slot":
            made.append(_row_shape(info, rows_vary))
            continue
        if rows_vary:
            by = next(group.name for group in lowered.groups if any(v.buffer is buffer for v in group.written()))
            raise UnsupportedError(
                f"output {info.name!r} ({by}) has a shape that depends on values, or elements that are no numbers: "
                "with a batch that varies, a CUDA engine cannot say which of it belongs to the call. "
                "Build for one size: batch=1"
            )
        made.append((None, info.dtype.value))
    return tuple(made)


@dataclass
class _Recorder:
    """Gathers what all buckets share: kernels and weights, each once."""

    target: Target
    compiled: Mapping[str, Kernel]
    cpu: CpuRecorder
    kernels: list[Kernel] = field(default_factory=list)
    _kernel_index: dict[str, int] = field(default_factory=dict)
    _weights: list[bytes] = field(default_factory=list)
    _weight_offset: dict[bytes, int] = field(default_factory=dict)
    _of_buffer: dict[Buffer, int] = field(default_factory=dict)
    _of_array: dict[int, tuple[int, np.ndarray[Any, Any]]] = field(default_factory=dict)
    _weight_end: int = 0

    def bucket(self, rows: int, lowered: Lowered, choices: Sequence[Choice]) -> Bucket:
        """Place the groups' buffers and record their launches, and what the CPU does in between. ``choices``: for the
        groups that have kernels."""
        groups = lowered.groups
        left = iter(choices)
        chosen = [None if isinstance(group, CpuGroup) else next(left) for group in groups]
        scratch = [
            (argument.buffer, index)
            for index, choice in enumerate(chosen)
            if choice is not None
            for launch in choice.launches
            for argument in launch.arguments
            if isinstance(argument, Scratch)
        ]
        scratch = list(dict.fromkeys(scratch))
        placement = plan_memory(groups, scratch)
        places = _Places(self, placement, lowered)
        ahead = places.fetched_ahead(chosen)
        records: list[LaunchRecord] = []
        shown: list[Mapping[str, Any]] = []
        steps: list[CpuStep] = []
        slots: dict[Buffer, int] = {}
        for index, (group, choice) in enumerate(zip(groups, chosen, strict=True)):
            if choice is None:
                assert isinstance(group, CpuGroup)
                steps.append(self.cpu.step(group, index, len(records), slots, lowered, placement))
                shown.append(self.cpu.shown(group))
                continue
            scratch_views = [View(buffer, (buffer.elements,), (1,)) for buffer, owner in scratch if owner == index]
            reads = tuple(
                places.span(view) for view in [*group.views(), *scratch_views] if view.buffer.kind != "weight"
            )
            writes = tuple(places.span(view) for view in [*group.written(), *scratch_views])
            for launch in choice.launches:
                records.append(
                    LaunchRecord(
                        kernel=self._kernel(launch),
                        grid=launch.grid,
                        arguments=tuple(places.argument(argument) for argument in launch.arguments),
                        reads=reads,
                        writes=writes,
                        group=index,
                        ahead=ahead[index],
                    )
                )
            shown.append(
                {
                    "name": group.name,
                    "kind": type(group).__name__,
                    "tactic": choice.tactic,
                    "configuration": dict(choice.configuration),
                    "latency_us": choice.latency_us,
                    "bytes": least_bytes(group),
                    "operations": operations(group),
                    "floor_us": round(floor_us(group, self.target), 3),
                }
            )
        return Bucket(rows, placement.arena_bytes, tuple(records), tuple(shown), tuple(steps))

    def _kernel(self, launch: Launch) -> int:
        key = kernel_key(launch.kernel, self.target)
        if key not in self._kernel_index:
            self._kernel_index[key] = len(self.kernels)
            self.kernels.append(self.compiled[key])
        return self._kernel_index[key]

    def weight(self, buffer: Buffer) -> int:
        """Where a weight lies in the blob. Buckets have the same weights: equal bytes are kept once."""
        if buffer not in self._of_buffer:
            assert buffer.data is not None, buffer.name
            if id(buffer.data) not in self._of_array:
                self._of_array[id(buffer.data)] = self._place(buffer.data), buffer.data
            self._of_buffer[buffer] = self._of_array[id(buffer.data)][0]
        return self._of_buffer[buffer]

    def _place(self, array: np.ndarray[Any, Any]) -> int:
        data = np.ascontiguousarray(array).tobytes()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest not in self._weight_offset:
            self._weight_offset[digest] = self._weight_end
            self._weights.append(data)
            self._weight_end += -(-len(data) // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT
        return self._weight_offset[digest]

    def weight_bytes(self) -> bytes:
        """All weights, each on a multiple of 256 bytes."""
        return b"".join(data + bytes(-len(data) % WEIGHT_ALIGNMENT) for data in self._weights)


@dataclass
class _Places:
    """Addresses of one bucket's views."""

    recorder: _Recorder
    placement: Placement
    lowered: Lowered

    def address(self, view: View) -> tuple[Any, ...]:
        """As LaunchRecord has it."""
        byte = view.offset * ITEM_BYTES[view.dtype]
        buffer = view.buffer
        if buffer.kind == "weight":
            return ("weight", self.recorder.weight(buffer) + byte)
        if buffer.kind == "arena":
            return ("arena", self.placement.offsets[buffer] + byte)
        return (buffer.kind, self._index(buffer), byte)

    def _index(self, buffer: Buffer) -> int:
        row = self.lowered.inputs if buffer.kind == "input" else self.lowered.outputs
        return next(index for index, each in enumerate(row) if each is buffer)

    def span(self, view: View) -> tuple[str, int, int]:
        """(place, first byte, end byte), holes included."""
        size = ITEM_BYTES[view.dtype]
        first = view.offset * size
        if view.buffer.kind == "arena":
            place = "arena"
            first += self.placement.offsets[view.buffer]
        else:
            place = f"{view.buffer.kind} {self._index(view.buffer)}"
        return place, first, first + view.reach * size

    def fetched_ahead(self, choices: Sequence[Choice | None]) -> list[tuple[int, int]]:
        """For each group, where the weights lie that its launches fetch: those of the next group that has any. (byte
        offset, bytes); (0, 0) for nothing."""
        found: list[tuple[int, int]] = []
        coming = (0, 0)
        for choice in reversed(choices):
            found.append(coming)
            view = None if choice is None else weight_to_fetch(choice.launches)
            if view is not None:
                coming = (int(self.address(view)[1]), view.reach * ITEM_BYTES[view.dtype])
        return found[::-1]

    def argument(self, argument: Argument) -> tuple[Any, ...]:
        """As LaunchRecord has it."""
        match argument:
            case Pointer(view):
                return self.address(view)
            case Scratch(buffer):
                return ("arena", self.placement.offsets[buffer])
            case Scalar(dtype, value):
                return (dtype, value)
            case Rows(factor):
                return ("rows", factor)
            case TensorMap():
                return ("tensormap", tensor_map_record(argument, self.address(argument.view)))
