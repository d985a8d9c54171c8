"""A whole graph run by ONNX Runtime's CPU kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import BuildError, ExecutionError, MissingDependencyError
from trine.runtime.cpu.ort_values import from_ort_value, needs_ort_value, to_ort_value

__all__ = ["OnnxRuntimeExecutor", "load_onnxruntime"]

_EXTERNAL = "weights"  # the location written into the model; the bytes are handed over beside it


def load_onnxruntime() -> Any:
    """The onnxruntime module. Raises MissingDependencyError where it is not installed."""
    try:
        import onnxruntime
    except ImportError as err:
        raise MissingDependencyError(
            "this needs ONNX Runtime, which is not installed: pip install onnxruntime"
        ) from err
    return onnxruntime


class OnnxRuntimeExecutor:
    """One InferenceSession, shared by every trine session: its ``run`` may be called from many threads."""

    def __init__(
        self,
        graph: PortableGraph,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        *,
        threads: int,
        options: Mapping[str, Any],
    ) -> None:
        """Compile ``graph``. ``options``: "optimization" ("all", "basic" or "none"); "weights": "packed", or "fed"
        to give them to each call where they lie, never copied: that starts much sooner, and runs slower;
        "profile_prefix": how the file begins that ``end_profiling`` writes.

        Raises BuildError with ONNX Runtime's reason when it refuses the graph.
        """
        ort = load_onnxruntime()
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = threads
        session_options.inter_op_num_threads = 1
        session_options.log_severity_level = 4  # a refusal reaches the caller as an exception, not as a print
        if "profile_prefix" in options:
            session_options.enable_profiling = True
            session_options.profile_file_prefix = options["profile_prefix"]
        level = ort.GraphOptimizationLevel
        session_options.graph_optimization_level = {
            "all": level.ORT_ENABLE_ALL,
            "basic": level.ORT_ENABLE_BASIC,
            "none": level.ORT_DISABLE_ALL,
        }[options.get("optimization", "all")]
        self._weights = graph.weights  # where they are fed, ONNX Runtime reads them in place at each call
        self._fed: dict[str, Any] = {}
        refusals: tuple[type[Exception], ...] = (*_errors(), RuntimeError, ValueError)
        try:
            if options.get("weights") == "fed":
                model = graph.with_weights_as_inputs()
                self._fed = {weight.name: to_ort_value(ort, weight.array, weight.dtype) for weight in graph.weights}
            elif graph.weights:
                model = graph.external(_EXTERNAL)
                session_options.add_external_initializers(
                    [weight.name for weight in graph.weights],
                    [to_ort_value(ort, weight.array, weight.dtype) for weight in graph.weights],
                )
            else:
                model = graph.model
            self._session = ort.InferenceSession(model, session_options, providers=["CPUExecutionProvider"])
        except refusals as err:
            raise BuildError(f"ONNX Runtime {ort.__version__} refuses the graph: {_first_line(err)}") from err
        self._input_names = [info.name for info in inputs]
        self._output_names = [info.name for info in outputs]
        self._raw = any(needs_ort_value(info.dtype) for info in (*inputs, *outputs))
        self._inputs, self._outputs, self._ort = tuple(inputs), tuple(outputs), ort

    def open_session(self) -> OnnxRuntimeSession:
        """A new session over the shared weights."""
        if self._raw or self._fed:
            return _OrtValueSession(self._session, self._ort, self._inputs, self._outputs, self._fed)
        return OnnxRuntimeSession(self._session, self._input_names, self._output_names)

    def end_profiling(self) -> str:
        """Write what was measured; the path of the file. For an executor with a "profile_prefix"."""
        path: str = self._session.end_profiling()
        return path

    def close(self) -> None:
        """Free the InferenceSession."""
        del self._session, self._fed, self._weights


class OnnxRuntimeSession:
    """Calls ``InferenceSession.run``, or binds the outputs where the caller brings memory for them."""

    writes_in_place = False  # ONNX Runtime returns new arrays, which are the caller's to keep

    def __init__(self, session: Any, input_names: list[str], output_names: list[str]) -> None:
        self._session = session
        self._run = session.run
        self._input_names = input_names
        self._output_names = output_names
        self._errors = _errors()

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See ``trine.runtime.executor.Session.run``."""
        try:
            return self._compute(inputs, outputs)
        except self._errors as err:
            raise ExecutionError(
                f"ONNX Runtime: {_first_line(err)}. Does an input hold a value that the model cannot take?"
            ) from err

    def _compute(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        feeds = dict(zip(self._input_names, inputs, strict=True))
        if all(out is None for out in outputs):
            results: list[np.ndarray] = self._run(self._output_names, feeds)
            return results
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, out in zip(self._output_names, outputs, strict=True):
            if out is None:
                binding.bind_output(name, "cpu")
            else:
                binding.bind_output(name, "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)
        self._session.run_with_iobinding(binding)
        values = binding.get_outputs()
        return [out if out is not None else value.numpy() for out, value in zip(outputs, values, strict=True)]


class _OrtValueSession(OnnxRuntimeSession):
    """For types that NumPy lacks (bfloat16, fp8, int4), which travel as OrtValues over the same bytes, and for
    weights that are ``fed`` with the inputs.
    """

    def __init__(
        self,
        session: Any,
        ort: Any,
        inputs: tuple[TensorInfo, ...],
        outputs: tuple[TensorInfo, ...],
        fed: Mapping[str, Any],
    ) -> None:
        super().__init__(session, [info.name for info in inputs], [info.name for info in outputs])
        self._ort, self._inputs, self._outputs, self._fed = ort, inputs, outputs, fed

    def _compute(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        feeds = {
            info.name: to_ort_value(self._ort, array, info.dtype)
            for info, array in zip(self._inputs, inputs, strict=True)
        }
        feeds.update(self._fed)
        values = self._session.run_with_ort_values(self._output_names, feeds)
        results = []
        for info, value, out in zip(self._outputs, values, outputs, strict=True):
            array = from_ort_value(value, info.dtype)
            if out is not None:
                np.copyto(out, array)
                array = out
            results.append(array)
        return results


def _errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's own exceptions, which share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.EPFail,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.ModelLoaded,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )


def _first_line(err: BaseException) -> str:
    return " ".join(str(err).split())[:600]
