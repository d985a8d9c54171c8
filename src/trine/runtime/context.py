"""ExecutionContext: one caller's buffers over an engine; checks what comes in, hands back what came out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import InputError
from trine.profile import ShapeRange
from trine.runtime.array_libraries import current_stream, library_stream, new_like
from trine.runtime.arrays import as_numpy, as_torch, is_torch
from trine.runtime.device_arrays import as_device_array, is_on_gpu
from trine.runtime.executor import Executor, Session
from trine.runtime.input_check import InputCheck, show_shape

__all__ = ["ExecutionContext"]

# Outputs from this size on are allocated here and written in place, where the backend would otherwise copy.
_ALLOCATE_BYTES = 256 * 1024


class ExecutionContext:
    """One line of execution over an engine. Use one per thread; close it, or use it in a ``with``."""

    def __init__(
        self,
        executor: Executor,
        inputs: tuple[TensorInfo, ...],
        outputs: tuple[TensorInfo, ...],
        ranges: Mapping[str, ShapeRange],
    ) -> None:
        session = executor.open_session()
        self._session: Session | None = session
        self._checks = {info.name: InputCheck(info, ranges.get(info.name)) for info in inputs}
        self._outputs = outputs
        self._no_outputs: list[np.ndarray | None] = [None] * len(outputs)

    def execute(self, inputs: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run once.

        Args:
            inputs: an array for each input's name: NumPy, PyTorch on the CPU, or anything with DLPack. For an engine
                on a GPU also arrays there, as ``execute_async`` takes them.
            out: arrays to write outputs into, by name; C-contiguous, of the exact dtype and shape.

        Returns:
            Every output by name. NumPy arrays, or PyTorch tensors when any input was one. Those in ``out`` are
            the caller's own objects.

        Raises:
            InputError: a name, count, dtype, rank, shape or device does not fit.
            ExecutionError: the backend failed on these values, or computes for this context in another thread.
        """
        session = self._session
        if session is None:
            raise InputError("this execution context is closed; create another with engine.create_execution_context()")
        if not _is_mapping(inputs) or inputs.keys() != self._checks.keys():
            self._refuse_names(inputs)
        bound: dict[str, int] = {}
        arrays = []
        torch_caller = False
        for name, check in self._checks.items():
            value = inputs[name]
            if type(value) is not np.ndarray:
                if is_on_gpu(value):
                    return self._execute_on_gpu(inputs, out)
                torch_caller = torch_caller or is_torch(value)
                value = as_numpy(name, value)
            arrays.append(check.check(value, bound))
        targets = self._no_outputs
        if out is not None:
            targets = self._check_out(out, bound)
        elif session.writes_in_place:
            targets = [self._allocate(info, bound) for info in self._outputs]
        results = session.run(arrays, targets)
        answers: dict[str, Any] = {}
        for info, array in zip(self._outputs, results, strict=True):
            if out is not None and info.name in out:
                if all(array is not target for target in targets):
                    _fill(info.name, out[info.name], array)
                answers[info.name] = out[info.name]
            else:
                answers[info.name] = as_torch(array) if torch_caller else array
        return answers

    def execute_async(
        self, inputs: Mapping[str, Any], out: Mapping[str, Any] | None = None, stream: Any = None
    ) -> dict[str, Any]:
        """Queue a run on a CUDA stream and return at once; the outputs are ready when the stream has come so far.

        An engine that leaves operators to the CPU returns when the last of these is done.

        Args:
            inputs: an array in the engine's GPU's memory for each input's name, contiguous, of the engine's dtype:
                PyTorch's, CuPy's, or anything with the CUDA array interface or DLPack.
            out: arrays to write outputs into, by name; those left out are allocated: PyTorch's or CuPy's, as the
                inputs. Other libraries' inputs need all of them.
            stream: its handle, or a stream of PyTorch, CuPy or pycuda. None: the current stream of the inputs' library,
                else the context's own.

        Raises:
            InputError: as ``execute``; also for arrays in host memory, for an engine that runs on the CPU, and for a
                stream of another GPU or context, or one that is being captured into a CUDA graph.
        """
        session: Any = self._session
        if session is None:
            raise InputError("this execution context is closed; create another with engine.create_execution_context()")
        if not hasattr(session, "run_device"):
            raise InputError(
                f"this engine runs {getattr(session, 'where', 'on the CPU')} and takes arrays in host memory; pass "
                'x.cpu(), or build the model with device="cuda" and load it where the GPU is'
            )
        if not _is_mapping(inputs) or inputs.keys() != self._checks.keys():
            self._refuse_names(inputs)
        if out is not None:
            self._refuse_unknown(out)
        handle = current_stream(inputs, stream)
        if handle is None:
            handle = int(session.stream)
        session.check_stream(handle)
        bound: dict[str, int] = {}
        sources, targets = [], []
        for name, check in self._checks.items():
            array = as_device_array(name, inputs[name], check.info, session, handle)
            check.check_shape(array.shape, bound)
            sources.append(array)
        answers = {}
        example = next(iter(inputs.values()))
        for index, info in enumerate(self._outputs):
            shape = self._shape_of(info, bound)
            if shape is None or index in session.outputs_on_host:
                raise InputError(
                    f"output {info.name!r} is made on the CPU, in a shape that depends on values; pass the inputs as "
                    "NumPy arrays, and it comes as one"
                )
            if out is not None and info.name in out:
                answers[info.name] = out[info.name]
            else:
                answers[info.name] = new_like(example, info, shape, handle)
            array = as_device_array(info.name, answers[info.name], info, session, handle, "out")
            if array.shape != shape:
                raise InputError(f"out {info.name!r}: expected shape {shape}, got {array.shape}")
            targets.append(array)
        arrays = (*sources, *targets)
        session.run_device(
            [array.address for array in sources],
            [array.address for array in targets],
            session.rows_of([array.shape for array in sources]),
            handle,
            after={array.stream for array in arrays if array.stream is not None},
            held=[array.held for array in arrays if array.held is not None],
        )
        return answers

    def _execute_on_gpu(self, inputs: Mapping[str, Any], out: Mapping[str, Any] | None) -> dict[str, Any]:
        """As execute_async; answers are waited for unless PyTorch's or CuPy's current stream orders what follows."""
        answers = self.execute_async(inputs, out)
        if all(library_stream(value) is None for value in inputs.values()):
            session: Any = self._session
            session.synchronize()
        return answers

    def _refuse_names(self, inputs: Mapping[str, Any]) -> None:
        wanted = list(self._checks)
        if not _is_mapping(inputs):
            raise InputError(
                f"inputs: expected a dict with an array for each of {wanted}, got {type(inputs).__name__}; "
                "an engine itself may be called with arrays alone"
            )
        got = list(inputs)
        missing = [name for name in wanted if name not in inputs]
        extra = [name for name in got if name not in self._checks]
        parts = []
        if missing:
            parts.append(f"missing {missing}")
        if extra:
            parts.append(f"unknown {extra}")
        raise InputError(f"inputs: {' and '.join(parts)}; the engine takes {wanted}")

    def _refuse_unknown(self, out: Mapping[str, Any]) -> None:
        if not _is_mapping(out):
            raise InputError(f"out: expected a dict of arrays by output's name, got {type(out).__name__}")
        known = {info.name for info in self._outputs}
        unknown = [name for name in out if name not in known]
        if unknown:
            raise InputError(f"out: unknown {unknown}; the engine's outputs are {sorted(known)}")

    def _shape_of(self, info: TensorInfo, bound: Mapping[str, int]) -> tuple[int, ...] | None:
        shape = tuple(dim if isinstance(dim, int) else bound.get(dim, -1) for dim in info.shape)
        return None if -1 in shape else shape

    def _allocate(self, info: TensorInfo, bound: Mapping[str, int]) -> np.ndarray | None:
        shape = self._shape_of(info, bound)
        if shape is None or info.dtype is DataType.STRING:
            return None
        nbytes = math.prod(shape) * info.dtype.bits // 8
        return np.empty(shape, info.dtype.numpy) if nbytes >= _ALLOCATE_BYTES else None

    def _check_out(self, out: Mapping[str, Any], bound: Mapping[str, int]) -> list[np.ndarray | None]:
        self._refuse_unknown(out)
        targets: list[np.ndarray | None] = []
        for info in self._outputs:
            if info.name not in out:
                targets.append(None)
                continue
            array = as_numpy(info.name, out[info.name], "out")
            shape = self._shape_of(info, bound)
            if array.dtype != info.dtype.numpy or (shape is not None and array.shape != shape):
                raise InputError(
                    f"out {info.name!r}: expected {info.dtype.value} {shape or show_shape(info.shape)}, "
                    f"got {array.dtype} {array.shape}"
                )
            if shape is None:  # known only once the values are: filled by a copy afterwards
                targets.append(None)
                continue
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise InputError(
                    f"out {info.name!r}: expected a writeable C-contiguous array; allocate it with np.empty"
                )
            targets.append(array)
        return targets

    def close(self) -> None:
        """Let go of the buffers; the context cannot be used afterwards."""
        session: Any = self._session
        self._session = None
        if hasattr(session, "close"):
            session.close()

    def __enter__(self) -> ExecutionContext:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_mapping(value: object) -> bool:
    return type(value) is dict or isinstance(value, Mapping)  # the first is the quicker question


def _fill(name: str, target: Any, array: np.ndarray) -> None:
    destination = as_numpy(name, target, "out")
    if destination.shape != array.shape:
        raise InputError(f"out {name!r}: expected shape {array.shape}, got {destination.shape}")
    np.copyto(destination, array)
