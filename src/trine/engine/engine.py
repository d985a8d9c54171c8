"""Engine: a built model. Calls like the module it came from; saves to one file; makes execution contexts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from trine.engine.format import EngineContents, engine_to_bytes, write_engine
from trine.engine.manifest import Manifest, TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import InputError
from trine.profile import OptimizationProfile
from trine.runtime.context import ExecutionContext
from trine.runtime.executor import ENGINE_CLOSED, Executor

if TYPE_CHECKING:
    from trine.runtime.cpu import CpuPlan
    from trine.runtime.cuda.plan import CudaPlan
    from trine.runtime.tensorrt.plan import TensorRTPlan

__all__ = ["Engine"]


class Engine:
    """A verified, compiled model.

    Made by ``trine.build`` or ``trine.load``. Safe to call from several threads: each call takes an execution
    context of its own from a small pool.
    """

    def __init__(
        self,
        manifest: Manifest,
        graph: PortableGraph,
        plans: Mapping[str, bytes | memoryview],
        plan: CpuPlan | CudaPlan | TensorRTPlan,
        executor: Executor,
        owner: Any = None,
    ) -> None:
        """``owner`` is whatever keeps the weights' memory alive, such as the mapped file."""
        self.manifest = manifest
        self.graph = graph
        self.plans = dict(plans)
        self.plan = plan
        self._executor: Executor | None = executor
        self._owner = owner
        self._idle: list[ExecutionContext] = []
        self._lock = threading.Lock()
        self._input_names = tuple(info.name for info in manifest.inputs)
        self._output_names = tuple(info.name for info in manifest.outputs)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Names, dtypes and shapes of the inputs; a str in a shape is a dynamic dimension."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Names, dtypes and shapes of the outputs."""
        return self.manifest.outputs

    @property
    def profile(self) -> OptimizationProfile:
        """The smallest, the tuned and the largest shape of every input."""
        return self.manifest.profile

    @property
    def tactic(self) -> str:
        """The backend that runs the graph here: "openvino", "onnxruntime" or "cuda"."""
        return self.plan.tactic

    @property
    def device(self) -> str:
        """Where it runs here: "cpu", or "cuda:0"."""
        return getattr(self._executor, "device", "cpu")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run once, with the arguments that the source model takes and its structure of outputs.

        NumPy in, NumPy out; PyTorch in, PyTorch out. Raises InputError when the arguments do not fit.
        """
        structure = self.manifest.input_structure
        if not kwargs and len(args) == len(self._input_names) and all(_is_array(arg) for arg in args):
            inputs: Mapping[str, Any] = dict(zip(self._input_names, args, strict=True))
        elif not kwargs and len(args) == 1 and isinstance(args[0], dict) and args[0].keys() == set(self._input_names):
            inputs = args[0]
        elif structure is not None:
            from trine.structure import flatten_call

            inputs = flatten_call(structure, args, kwargs)
        else:
            if len(args) > len(self._input_names):
                raise InputError(
                    f"expected at most {len(self._input_names)} inputs {list(self._input_names)}, got {len(args)}"
                )
            inputs = {**dict(zip(self._input_names, args, strict=False)), **kwargs}
            if len(inputs) != len(args) + len(kwargs):
                raise InputError(f"an input was given twice; the engine takes {list(self._input_names)}")
        try:
            context = self._idle.pop()
        except IndexError:
            context = self.create_execution_context()
        try:
            outputs = context.execute(inputs)
        finally:
            self._idle.append(context)
            if self._executor is None:  # closed meanwhile, by another thread
                self._close_idle()
        if self.manifest.output_structure is not None:
            from trine.structure import rebuild

            return rebuild(self.manifest.output_structure, outputs)
        if len(self._output_names) == 1:
            return outputs[self._output_names[0]]
        return tuple(outputs[name] for name in self._output_names)

    def create_execution_context(self) -> ExecutionContext:
        """A context with its own buffers. Contexts of one engine may run at once in several threads."""
        executor = self._executor
        if executor is None:
            raise InputError(ENGINE_CLOSED)
        return ExecutionContext(executor, self.inputs, self.outputs, self.profile.ranges)

    def save(self, path: str | Path) -> None:
        """Write the engine to one file, whole or not at all. Raises EngineSaveError when it cannot."""
        self._verify_all()
        write_engine(Path(path).expanduser(), self.manifest, self.graph, self.plans)

    def serialize(self) -> bytes:
        """The bytes that ``save`` writes."""
        self._verify_all()
        return engine_to_bytes(self.manifest, self.graph, self.plans)

    def _verify_all(self) -> None:
        """Loading checks what runs here; what is written again, with new checksums, is all of it."""
        if isinstance(self._owner, EngineContents):
            self._owner.verify_checksums()

    def close(self) -> None:
        """Free the compiled model. Contexts of it cannot be used afterwards. The graph and its weights, which are
        the mapped file, go with the engine object: until then it can be inspected and saved."""
        with self._lock:
            executor, self._executor = self._executor, None
            self._close_idle()
            if executor is not None:
                executor.close()

    def _close_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took the last one
                self._idle.pop().close()

    def __reduce__(self) -> NoReturn:
        """Engines hold compiled code: they are neither pickled nor copied."""
        raise TypeError(
            "an engine cannot be pickled or copied: it holds compiled code. Send its file's path, or the bytes of "
            "engine.serialize(), and give them to trine.load there"
        )

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        def show(infos: tuple[TensorInfo, ...]) -> str:
            return ", ".join(f"{i.name}: {i.dtype.value}{list(i.shape)}" for i in infos)

        return (
            f"<trine.Engine {self.manifest.name!r} ({show(self.inputs)}) -> ({show(self.outputs)}), "
            f"{self.manifest.precision} by {self.tactic}>"
        )


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__")
