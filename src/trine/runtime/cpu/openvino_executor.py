"""A whole graph run by OpenVINO's CPU plugin."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import BuildError, ExecutionError, MissingDependencyError
from trine.runtime.cpu.import_openvino import import_openvino

__all__ = ["OpenVinoExecutor", "load_openvino", "supported_precisions"]

log = logging.getLogger("trine")

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def load_openvino() -> Any:
    """The openvino module. Raises MissingDependencyError where it is not installed."""
    try:
        return import_openvino()
    except ImportError as err:
        raise MissingDependencyError("this needs OpenVINO, which is not installed: pip install openvino") from err


def supported_precisions(core: Any = None) -> tuple[str, ...]:
    """The precisions that OpenVINO computes in natively on this CPU; "fp32" always."""
    capabilities = (core or load_openvino().Core()).get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", *(name.lower() for name in ("BF16", "FP16") if name in capabilities))


class OpenVinoExecutor:
    """One CompiledModel; each session is an InferRequest of it."""

    def __init__(
        self,
        graph: PortableGraph,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        *,
        threads: int,
        options: Mapping[str, Any],
    ) -> None:
        """Compile ``graph``. ``options``: "precision" ("fp32", "bf16" or "fp16"), "hint", "layer_times" ("on").

        Raises BuildError with OpenVINO's reason when it refuses the graph.
        """
        ov = load_openvino()
        self._weights = graph.weights  # OpenVINO reads them in place: they must outlive the model
        # OpenVINO's ONNX front end takes constants from memory under this location, the address being the offset
        # (src/frontends/onnx/frontend/src/utils/tensor_external_data.cpp). Importers refuse files with it.
        model_bytes = graph.in_memory()
        core = ov.Core()
        precision = options.get("precision", "fp32")
        if precision not in supported_precisions(core):
            log.warning("this CPU does not compute in %s: running in fp32", precision)
            precision = "fp32"
        config: dict[str, Any] = {
            # Always set: left alone, OpenVINO takes bf16 by itself on CPUs that have it.
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
            "PERFORMANCE_HINT": options.get("hint", "LATENCY"),
            "INFERENCE_NUM_THREADS": threads,
        }
        if options.get("layer_times") == "on":
            config["PERF_COUNT"] = True
        try:
            model = core.read_model(io.BytesIO(model_bytes))
            self._compiled = core.compile_model(model, "CPU", config)
        except RuntimeError as err:
            raise BuildError(f"OpenVINO {ov.__version__} refuses the graph: {_reason(err)}") from err
        self._inputs = _slots(ov, self._compiled.inputs, inputs)
        self._outputs = _slots(ov, self._compiled.outputs, outputs)
        lost = [slot.info.name for slot in self._outputs if slot.port is None]
        if lost:
            raise BuildError(f"OpenVINO {ov.__version__} lost the outputs {lost} while compiling")

    def open_session(self) -> OpenVinoSession:
        """A new InferRequest over the shared weights."""
        return OpenVinoSession(self._compiled.create_infer_request(), self._inputs, self._outputs)

    def close(self) -> None:
        """Free the compiled model."""
        del self._compiled, self._weights


class OpenVinoSession:
    """One InferRequest. Inputs are shared with it, never copied; large outputs are written where they belong."""

    writes_in_place = True  # the context allocates large outputs, so that nothing is copied

    def __init__(self, request: Any, inputs: Sequence[_Slot], outputs: Sequence[_Slot]) -> None:
        self._request = request
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._bound = [False] * len(self._outputs)
        # Small tensors stay where they are from call to call, while the inputs' shapes do.
        self._small_shapes: tuple[tuple[int, ...], ...] | None = None
        self._small_inputs: list[np.ndarray] = []

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See ``trine.runtime.executor.Session.run``."""
        try:
            return self._compute(inputs, outputs)
        except RuntimeError as err:
            if "is busy" in str(err):
                text = "this execution context computes in another thread; give each thread a context of its own"
                raise ExecutionError(text) from err
            raise ExecutionError(
                f"OpenVINO: {_reason(err)}. Does an input hold a value that the model cannot take?"
            ) from err

    def _compute(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        if self._small_shapes is not None:
            if self._small_shapes == tuple([array.shape for array in inputs]):
                return self._run_small(inputs, outputs)
            self._small_shapes = None
        request = self._request
        # An OpenVINO tensor does not own what it shares: each must stay referenced until infer() is done.
        held = []
        for slot, array in zip(self._inputs, inputs, strict=True):
            if slot.port is not None:
                readable = array if array.flags.writeable else array.copy()  # it takes no read-only memory
                held.append(readable)
                request.set_tensor(slot.port, slot.share(readable))
        for index, out in enumerate(outputs):
            if out is not None and out.nbytes >= _BIND_BYTES:
                slot = self._outputs[index]
                request.set_tensor(slot.port, slot.share(out))
                self._bound[index] = True
            elif self._bound[index]:
                self._unbind(index)
        request.infer()
        results = [
            out if out is not None and self._bound[index] else self._copy_out(index, out)
            for index, out in enumerate(outputs)
        ]
        if all(array.nbytes <= _SMALL_BYTES for array in (*inputs, *results)):
            self._keep_small(inputs)
        return results

    def layer_times(self) -> list[tuple[str, float]]:
        """Names and milliseconds of what the last run executed; for an executor compiled with "layer_times"."""
        return [
            (info.node_name, info.real_time.total_seconds() * 1e3)
            for info in self._request.get_profiling_info()
            if info.status.name == "EXECUTED"
        ]

    def _keep_small(self, inputs: Sequence[np.ndarray]) -> None:
        """Give the request inputs of its own, to copy into."""
        if any(self._bound) or any(slot.port is None or not slot.plain for slot in self._inputs):
            return
        self._small_inputs = [array.copy() for array in inputs]
        for slot, array in zip(self._inputs, self._small_inputs, strict=True):
            self._request.set_tensor(slot.port, slot.share(array))
        self._small_shapes = tuple(array.shape for array in inputs)

    def _run_small(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """Copying a few KB in and out is faster than making tensors: about 20 us less a call."""
        for mine, array in zip(self._small_inputs, inputs, strict=True):
            mine[...] = array
        self._request.infer()
        # Asked for anew each time: OpenVINO has two buffers for an output, and may answer in either.
        return [self._copy_out(index, out) for index, out in enumerate(outputs)]

    def _unbind(self, index: int) -> None:
        """Give the request memory of its own again, which it may resize."""
        slot = self._outputs[index]
        rank = len(slot.info.shape)
        self._request.set_tensor(slot.port, slot.tensor_class(slot.element_type, [0] * rank if rank else []))
        self._bound[index] = False

    def _copy_out(self, index: int, out: np.ndarray | None) -> np.ndarray:
        slot = self._outputs[index]
        tensor = self._request.get_tensor(slot.port)
        data: np.ndarray = tensor.str_data if slot.info.dtype is DataType.STRING else tensor.data
        if slot.carrier is not None:
            data = data.view(slot.info.dtype.numpy)
        if slot.info.dtype is DataType.BOOL:
            data = data.view(np.bool_)
        if out is None:
            return data.astype(object) if slot.info.dtype is DataType.STRING else data.copy()
        np.copyto(out, data)
        return out


# Under this size a copy costs less than handing OpenVINO a tensor of ours (about 40 us, once per output).
_BIND_BYTES = 256 * 1024
_SMALL_BYTES = 16 * 1024


class _Slot:
    """How one input or output travels: its port (None: OpenVINO dropped an input that nothing reads) and type."""

    def __init__(self, ov: Any, port: Any, info: TensorInfo) -> None:
        self.port, self.info = port, info
        self.tensor_class = ov.Tensor
        # OpenVINO's NumPy bindings know no ml_dtypes: such arrays travel as unsigned integers of their width.
        ml_type = info.dtype is not DataType.STRING and info.dtype.value.startswith(("bfloat16", "float8"))
        self.carrier = (np.uint16 if info.dtype.bits == 16 else np.uint8) if ml_type else None
        self.element_type = port.get_element_type() if port is not None else None
        # NumPy and OpenVINO see the same bytes as the same type; no carrier, no view.
        self.plain = self.carrier is None and info.dtype not in (DataType.STRING, DataType.BOOL)

    def share(self, array: np.ndarray) -> Any:
        """An OpenVINO tensor over ``array``'s memory, which the caller keeps alive."""
        if self.info.dtype is DataType.STRING:
            return self.tensor_class(array.astype(str))
        if self.carrier is not None:
            return self.tensor_class(array.view(self.carrier), list(array.shape), self.element_type)
        return self.tensor_class(array, shared_memory=True)


def _slots(ov: Any, ports: Sequence[Any], infos: Sequence[TensorInfo]) -> tuple[_Slot, ...]:
    by_name = {name: port for port in ports for name in port.get_names()}
    return tuple(_Slot(ov, by_name.get(info.name), info) for info in infos)


def _reason(err: BaseException) -> str:
    """The last lines of OpenVINO's message say why; the first ones only where in its own source."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join(said or lines)[:600]
