"""The peers: ONNX Runtime and OpenVINO as a careful user runs them, on the model as PyTorch exports it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["export_onnx", "onnxruntime_call", "openvino_call", "openvino_lean_call"]

Array = np.ndarray[Any, Any]
Call = Callable[[Array], Array]


def export_onnx(module: Any, example: Array, path: Path) -> Path:
    """PyTorch's own export with its default optimisation and a dynamic batch; trine has no hand in it."""
    import torch

    program = torch.onnx.export(
        module,
        (torch.from_numpy(example),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program; this needs PyTorch 2.9 or newer")
    program.save(path)
    return path


def onnxruntime_call(model: Path | bytes, threads: int) -> Call:
    """All of ONNX Runtime's graph optimisations, the default CPU provider, ``threads`` threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    source = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def call(x: Array) -> Array:
        output: Array = session.run(None, {name: x})[0]
        return output

    return call


def openvino_call(
    model: Path | bytes, threads: int, precision: str = "f32", hint: str | None = None, shape: Any = None
) -> Call:
    """OpenVINO's CPU plugin at ``precision``; ``hint``: a PERFORMANCE_HINT; ``shape``: reshape to it, fixed.

    The input is shared, not copied, as its documentation advises; the output is the caller's to keep.
    """
    request = _openvino_request(model, threads, precision, hint, shape)

    def call(x: Array) -> Array:
        output: Array = request.infer([x], share_inputs=True)[0]
        return output

    return call


def openvino_lean_call(model: Path | bytes, threads: int) -> Call:
    """OpenVINO's least costly call from Python: the tensors set and read by hand, no dictionaries made."""
    import openvino as ov

    request = _openvino_request(model, threads, "f32", "LATENCY", None)

    def call(x: Array) -> Array:
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        request.infer()
        output: Array = request.get_output_tensor().data.copy()
        return output

    return call


def _openvino_request(model: Path | bytes, threads: int, precision: str, hint: str | None, shape: Any) -> Any:
    import openvino as ov

    core = ov.Core()
    network = core.read_model(io.BytesIO(model) if isinstance(model, bytes) else str(model))
    if shape is not None:
        network.reshape(list(shape))
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    if hint is not None:
        config["PERFORMANCE_HINT"] = hint
    return core.compile_model(network, "CPU", config).create_infer_request()
