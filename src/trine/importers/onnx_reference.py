"""The ONNX file itself as the judge of every answer: its own bytes, run without any graph optimisation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.reference
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import InputError, UnsupportedError
from trine.importers.imported_model import Arrays
from trine.importers.onnx_quirks import onnxruntime_quirks
from trine.runtime.cpu.features import usable_cores
from trine.runtime.cpu.ort_values import from_ort_value, to_ort_value

__all__ = ["OnnxReference"]

log = logging.getLogger("trine")

Array = np.ndarray[Any, Any]

ORT_ERRORS: tuple[type[Exception], ...] = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)
# ONNX's reference evaluator is plain Python and NumPy: an operator that it cannot do shows as any of these.
EVALUATOR_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


class OnnxReference:
    """Inputs by name to outputs by name, as the file says. Nothing is loaded before the first call.

    ONNX Runtime with optimisations off, over the file's own bytes; for what it cannot load, and for operators that it
    is known to compute wrongly (``onnx_quirks``), ONNX's slow reference evaluator.
    Raises UnsupportedError when neither can.
    """

    def __init__(
        self,
        data: bytes,
        external: Mapping[str, Array],
        inputs: Sequence[TensorInfo],
        output_names: Sequence[str],
        what: str,
    ) -> None:
        """``data``: the file's bytes; ``external``: its external initializers by name, as arrays."""
        self._data: bytes | None = data
        self._external = dict(external)
        self._inputs = {info.name: info for info in inputs}
        self._outputs = list(output_names)
        self._what = what
        self._run: Callable[[Mapping[str, Array]], Arrays] | None = None
        self.threads = min(usable_cores(), 8)
        self.engine = ""  # for people: which of the two computes, once known

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        """The file's own answers."""
        if self._run is not None:
            try:
                return self._run(inputs)
            except (*ORT_ERRORS, *EVALUATOR_ERRORS) as err:
                shapes = {name: array.shape for name, array in inputs.items()}
                raise InputError(
                    f"{self._what} itself cannot take these inputs, of shapes {shapes}: "
                    f"{self.engine}: {' '.join(str(err).split())[:400]}"
                ) from err
        assert self._data is not None
        reasons = []
        for engine, make in (("ONNX Runtime", self._onnxruntime), ("the ONNX reference evaluator", self._evaluator)):
            try:
                run = make()
                answers = run(inputs)
            except (*ORT_ERRORS, *EVALUATOR_ERRORS) as err:
                reasons.append(f"{engine}: {' '.join(str(err).split())[:400]}")
                log.info("%s is not judged by %s", self._what, reasons[-1])
                continue
            self._run, self.engine, self._data = run, engine, None
            return answers
        raise UnsupportedError(
            f"{self._what} cannot be run here, so no engine could be checked against it:\n  " + "\n  ".join(reasons),
            reasons,
        )

    def _onnxruntime(self) -> Callable[[Mapping[str, Array]], Arrays]:
        assert self._data is not None
        quirks = onnxruntime_quirks(onnx.load_from_string(self._data))
        if quirks:
            raise NotImplementedError("; ".join(quirks))
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # its refusals reach the caller as exceptions, not as prints
        weights = [
            to_ort_value(onnxruntime, array, DataType.from_numpy(array.dtype)) for array in self._external.values()
        ]
        if weights:
            options.add_external_initializers(list(self._external), weights)
        session = onnxruntime.InferenceSession(self._data, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        inputs = {name: self._inputs[name].dtype for name in names}

        def run(feeds: Mapping[str, Array]) -> Arrays:
            values = {
                name: to_ort_value(onnxruntime, np.asarray(feeds[name], order="C"), dtype)
                for name, dtype in inputs.items()
            }
            answers = session.run_with_ort_values(self._outputs, values)
            return {
                name: from_ort_value(value, DataType.from_onnx(value.element_type()))
                for name, value in zip(self._outputs, answers, strict=True)
            }

        return run

    def _evaluator(self) -> Callable[[Mapping[str, Array]], Arrays]:
        assert self._data is not None
        model = onnx.load_from_string(self._data)
        for tensor in model.graph.initializer:
            if tensor.name in self._external:
                tensor.CopyFrom(onnx.numpy_helper.from_array(self._external[tensor.name], tensor.name))
        evaluator = onnx.reference.ReferenceEvaluator(model)

        def run(feeds: Mapping[str, Array]) -> Arrays:
            with np.errstate(all="ignore"):  # infinities and zeros are the model's business
                answers = evaluator.run(self._outputs, dict(feeds))
            return {name: np.asarray(value) for name, value in zip(self._outputs, answers, strict=True)}

        return run
