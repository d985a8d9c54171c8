"""Whole plans on the recording driver: each kernel is its group's meaning in NumPy, over the driver's memory.

All else is what an engine is built with and run by: lowering, memory plan, records, bytes, sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import triton
from pass_checks import run
from runtime.cuda.recording_driver import RecordingDriver

from trine.backends.cuda.build import build_cuda_plan
from trine.backends.cuda.choose import Choice
from trine.backends.cuda.groups import Buffer, Group, View, with_views
from trine.backends.cuda.kernel_cache import kernel_key
from trine.backends.cuda.reference import NUMPY_TYPES, Memory, run_group
from trine.backends.cuda.tactic import KernelSource, Launch, Pointer, Rows
from trine.backends.cuda.target import target_named
from trine.builder.freeze import freeze, tensor_infos
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.plan import CudaPlan, Kernel
from trine.runtime.cuda.plan_bytes import plan_from_bytes, plan_to_bytes

__all__ = ["Played", "Playing"]


@triton.jit
def _played(x):  # type: ignore[no-untyped-def]  # pragma: no cover
    pass


class _DeviceMemory(Memory):
    """Buffers where a launch's parameters say."""

    def __init__(self, driver: RecordingDriver, addresses: Mapping[Buffer, int], rows: int, bucket: int) -> None:
        super().__init__({}, np.empty(0, np.uint8))
        self._driver, self._addresses, self._rows, self._bucket = driver, addresses, rows, bucket

    def storage(self, buffer: Buffer) -> np.ndarray[Any, Any]:
        return self._driver.array(self._addresses[buffer], NUMPY_TYPES[buffer.dtype], self._elements(buffer))

    def span(self, buffer: Buffer) -> tuple[int, int]:
        """Its first byte, and the one behind its last."""
        start = self._addresses[buffer]
        return start, start + self._elements(buffer) * NUMPY_TYPES[buffer.dtype].itemsize

    def _elements(self, buffer: Buffer) -> int:
        edge = buffer.kind in ("input", "output")
        return buffer.elements // self._bucket * self._rows if edge else buffer.elements


class Playing:
    """A chooser whose only tactic is to play the group."""

    timer = None
    device_name = ""

    def __init__(self, refuses: Callable[[Group], str | None]) -> None:
        self.refuses = refuses
        self.kernels: dict[str, Kernel] = {}
        self.functions: dict[str, Callable[..., None]] = {}

    def refusal(self, group: Group) -> str | None:
        """As the tactics have it, where a test asks for them."""
        return self.refuses(group)

    def choose(self, buckets: Mapping[int, Sequence[Group]], say: Callable[[str], None]) -> dict[int, list[Choice]]:
        return {rows: [self._choice(group, rows) for group in groups] for rows, groups in buckets.items()}

    def _choice(self, group: Group, bucket: int) -> Choice:
        symbol = f"played_{len(self.functions)}"
        buffers = list(dict.fromkeys(view.buffer for view in (*group.views(), *group.written())))
        source = KernelSource(_played, {}, {}, options={"symbol": symbol})
        parameters = (*("pointer" for _ in buffers), "i32")
        key = kernel_key(source, target_named("sm_90"))
        self.kernels[key] = Kernel(symbol, symbol, symbol.encode(), 0, 32, parameters, null_pointers=0)

        def play(driver: RecordingDriver, grid: Any, values: tuple[bytes, ...]) -> None:
            *addresses, rows = [int.from_bytes(value, "little") for value in values]
            memory = _DeviceMemory(driver, dict(zip(buffers, addresses, strict=True)), rows, bucket)
            _check_apart(memory, buffers, {view.buffer for view in group.written()})
            run_group(_first_rows(group, rows), memory)

        self.functions[symbol] = play
        arguments = (*(Pointer(View(buffer, (1,), (1,))) for buffer in buffers), Rows())
        return Choice("played", {}, (Launch(source, (1, 1, 1), arguments),))


def _check_apart(memory: _DeviceMemory, buffers: Sequence[Buffer], written: Collection[Buffer]) -> None:
    """What a group writes shares memory with nothing else of it: NumPy, which reads all first, would not notice."""
    spans = {buffer: memory.span(buffer) for buffer in buffers}
    for buffer in written:
        start, end = spans[buffer]
        for other, (first, last) in spans.items():
            assert other is buffer or last <= start or end <= first, f"{other.name} lies where {buffer.name} is written"


def _first_rows(group: Group, rows: int) -> Group:
    if not getattr(group, "by_rows", False):
        return group
    cut: Group = with_views(group, lambda view: replace(view, shape=(rows, *view.shape[1:])))
    return cut


class Played:
    """An engine's plan on a recording driver, for a model whose every output has the same rows, or none.

    ``model``: as ONNX has it, or frozen, with the inputs and outputs that its manifest would have.
    """

    def __init__(
        self,
        model: onnx.ModelProto | tuple[PortableGraph, Sequence[TensorInfo], Sequence[TensorInfo]],
        buckets: Sequence[int] = (1, 4),
        precision: str = "fp32",
        refuses: Callable[[Group], str | None] = lambda group: None,
    ) -> None:
        if isinstance(model, tuple):
            self.graph, self.inputs, self.outputs = model
            self.proto = onnx.load_from_string(self.graph.inline())
        else:
            self.proto = model
            read = ir.from_proto(model)
            self.graph = freeze(read)
            self.inputs, self.outputs = tensor_infos(read)
        self.rows_vary = any(isinstance(info.shape[0], str) for info in self.inputs if info.shape)
        chooser: Any = Playing(refuses)
        built = build_cuda_plan(
            self.graph, self.inputs, self.outputs, buckets, precision, target_named("sm_90"), chooser,
            rows_vary=self.rows_vary,
        )  # fmt: skip
        assert built is not None
        made = built.plan
        self.plan: CudaPlan = plan_from_bytes(plan_to_bytes(made))
        assert plan_to_bytes(self.plan) == plan_to_bytes(made)
        self.driver = RecordingDriver(chooser.functions)
        self.executor = CudaExecutor(self.plan, self.inputs, self.outputs, driver=self.driver)
        self.session = self.executor.open_session()

    @property
    def on_cpu(self) -> list[list[str]]:
        """The operators of each of the CPU's steps, in the largest bucket."""
        steps = self.plan.buckets[-1].cpu_steps
        return [sorted(node["op"] for node in self.plan.cpu_parts[step.part].nodes) for step in steps]

    def answers(self, *arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """Of a session whose arena holds nothing but NaN."""
        self.session.poison()
        return self.session.run(list(arrays), [None] * len(self.outputs))

    def wanted(self, *arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """ONNX Runtime's answers for the whole model."""
        return run(self.proto, dict(zip((info.name for info in self.inputs), arrays, strict=True)))

    def close(self) -> None:
        """Free it all, and see that it was."""
        self.executor.close()
        assert self.driver.nothing_is_held()
