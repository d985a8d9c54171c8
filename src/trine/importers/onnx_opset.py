"""Opsets outside the range that everything here knows are converted, when that provably changes nothing.

Older ones are raised, because passes write newer operators; newer ones are lowered, because backends have no kernels
for them yet. ONNX's version converter is not always right (it does not enter the graphs of If and Loop, and some of
its adapters guess), so it is never simply trusted: the converted model must answer the example inputs as the file
itself does. Otherwise the model keeps its opset. Backends run old opsets too; passes that need a newer one leave it.
"""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir

from trine.errors import BuildError, UnsupportedError
from trine.importers.imported_model import Arrays
from trine.importers.onnx_reference import ORT_ERRORS, OnnxReference

__all__ = ["HIGHEST", "LOWEST", "settle_opset"]

log = logging.getLogger("trine")

LOWEST = 20  # has LayerNormalization (17), Gelu (20), reductions with axes as inputs (18)
HIGHEST = 25  # the newest that ONNX Runtime 1.32 has kernels for
OLDEST_KEPT = 7  # older ones must be converted: their broadcasting is another
# Conversion swaps operators for others that compute the same; sums may be rounded in another order.
_TOLERANCE = 1e-6


def settle_opset(model: ir.Model, reference: OnnxReference, arrays: Arrays) -> ir.Model:
    """``model`` at an opset from LOWEST to HIGHEST; ``model`` itself where that is not possible or not the same.

    Raises UnsupportedError for opsets below 7 that cannot be converted.
    """
    opset = model.opset_imports.get("", LOWEST)
    target = min(max(opset, LOWEST), HIGHEST)
    if opset == target:
        return model
    if any(node.domain not in ("", "ai.onnx") for node in model.graph.all_nodes()):
        return _kept(model, "it has operators of other domains, which the converter may lose")
    if any(True for graph in model.graphs() if graph is not model.graph):
        return _kept(model, "the converter does not enter the graphs within If, Loop and Scan")
    try:
        converted = _convert(model, target)
    except (onnx.version_converter.ConvertError, RuntimeError, ValueError, TypeError, IndexError) as err:
        return _kept(model, f"the converter says: {' '.join(str(err).split())[:300]}")
    reason = _difference(converted, reference, arrays)
    if reason is not None:
        return _kept(model, reason)
    return converted


def _kept(model: ir.Model, reason: str) -> ir.Model:
    opset = model.opset_imports[""]
    if opset < OLDEST_KEPT:
        raise UnsupportedError(
            f"the model has opset {opset}, and cannot be converted to opset {LOWEST}: {reason}. "
            f"Export it with opset {OLDEST_KEPT} or newer",
            [reason],
        )
    log.info("the model keeps its opset %s: %s", opset, reason)
    return model


def _convert(model: ir.Model, opset: int) -> ir.Model:
    """By ONNX's converter, which is given the weights as inputs: it need not see, nor copy, their values."""
    tensors = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and value.const_value.nbytes > 1024
    }
    values = {name: model.graph.initializers[name] for name in tensors}
    wanted = [value.name for value in model.graph.inputs]
    try:
        for name, value in values.items():
            del model.graph.initializers[name]
            model.graph.inputs.append(value)
        proto = ir.to_proto(model)
    finally:
        del model.graph.inputs[len(wanted) :]
        for name, value in values.items():
            value.const_value = tensors[name]
            model.graph.register_initializer(value)
    proto.ir_version = max(proto.ir_version, 8)  # before 4, every initializer has to be an input as well
    proto = onnx.version_converter.convert_version(proto, opset)
    converted = ir.from_proto(proto)
    for value in list(converted.graph.inputs):
        if value.name in tensors:
            value.const_value = tensors[value.name]
            converted.graph.register_initializer(value)
    for value in [value for value in converted.graph.inputs if value.name not in wanted]:
        converted.graph.inputs.remove(value)
    if [value.name for value in converted.graph.inputs] != wanted:
        raise ValueError("the converter changed the inputs")
    if [value.name for value in converted.graph.outputs] != [value.name for value in model.graph.outputs]:
        raise ValueError("the converter changed the outputs")
    return converted


def _difference(converted: ir.Model, reference: OnnxReference, arrays: Arrays) -> str | None:
    """Why the converted model is not the same as the file; None when it answers alike."""
    from trine.builder.freeze import freeze, tensor_infos
    from trine.runtime.cpu.onnxruntime_executor import OnnxRuntimeExecutor

    wanted = reference(arrays)
    inputs = tensor_infos(converted)[0]
    try:
        outputs = tensor_infos(converted)[1]
        executor = OnnxRuntimeExecutor(
            freeze(converted), inputs, outputs, threads=reference.threads, options={"optimization": "none"}
        )
    except (BuildError, UnsupportedError) as err:
        return f"the converted model does not compile: {' '.join(str(err).split())[:300]}"
    try:
        answers = executor.open_session().run([arrays[info.name] for info in inputs], [None] * len(outputs))
    except ORT_ERRORS as err:
        return f"the converted model does not run: {' '.join(str(err).split())[:300]}"
    for info, got in zip(outputs, answers, strict=True):
        want = wanted[info.name]
        if got.shape != want.shape or got.dtype != want.dtype:
            return (
                f"output {info.name!r} of the converted model is {got.dtype} {got.shape}, not {want.dtype} {want.shape}"
            )
        if not _alike(got, want):
            return f"output {info.name!r} of the converted model has other values"
    return None


def _alike(got: np.ndarray, want: np.ndarray) -> bool:
    if want.dtype.kind not in "fc":
        return bool(np.array_equal(got, want))
    finite = np.isfinite(want)
    largest = float(np.abs(want[finite]).max(initial=0.0))
    same = np.array_equal(np.isnan(got), np.isnan(want)) and np.array_equal(got[~finite], want[~finite], equal_nan=True)
    return same and bool(np.all(np.abs(got[finite] - want[finite]) <= _TOLERANCE * largest))
