"""Import an ONNX file. Read ``import_onnx`` from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, ShapeInferencePass

from trine.dtypes import DataType
from trine.errors import ConfigError, ExternalDataError, ModelImportError, UnsupportedError
from trine.importers.external_data import DataFolder, ExternalEntry
from trine.importers.imported_model import ImportedModel
from trine.importers.onnx_inputs import example_arrays, input_infos, name_dimensions, settle_ranks
from trine.importers.onnx_opset import settle_opset
from trine.importers.onnx_proto import (
    INLINE_LIMIT,
    all_tensors,
    check,
    check_names,
    check_tensor_sizes,
    parse,
    read_file,
    tensor_nbytes,
    without_large_tensors,
)
from trine.importers.onnx_reference import OnnxReference
from trine.importers.onnx_support import check_support, expand_preview_operators
from trine.runtime.cpu.ort_values import unpack
from trine.versions import installed_versions

__all__ = ["import_onnx"]

log = logging.getLogger("trine")

Array = np.ndarray[Any, Any]
# What an external location is called once its bytes are in memory.
_ELSEWHERE = "in-memory"
_PACKAGES = ("trine", "numpy", "onnx", "onnx-ir", "onnxruntime")


def import_onnx(
    source: str | Path | bytes,
    example_inputs: Any = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    batch: int | Sequence[int] | None = None,
    what: str | None = None,
) -> ImportedModel:
    """An ONNX model, opset 7 to the newest that the installed ``onnx`` knows, as the IR that the passes work on.

    Args:
        source: the path of a file, or the file's bytes (which cannot have external data).
        example_inputs: arrays by input name, or in order; None: random ones, made from ``seed``.
        shapes: for made-up inputs, the shape of those whose dimensions are dynamic in the file.
        batch: for made-up inputs, the size of dynamic first dimensions: a number, or (min, opt, max), of which opt.
        what: how errors and the engine call bytes; a path is called by its name.

    Raises:
        ModelImportError: it is no ONNX model, or a damaged or invalid one.
        UnsupportedError: its opset, domains, operators or types are not known here; every problem is listed.
        ExternalDataError: its weights lie outside its folder, or are missing or damaged.
        InputError, ConfigError: the example inputs or shapes do not fit it.
    """
    called, data = _read(source)
    what = called if what is None else what
    proto = parse(data, what)
    check_names(proto, what)
    check_support(proto, what)
    check_tensor_sizes(proto)
    folder = None if isinstance(source, bytes) else Path(source).parent
    external = _load_external(proto, folder)
    check(proto, what)

    as_read, proto = proto, expand_preview_operators(proto)
    weights = _large_weights(proto, external)
    model = _to_ir(without_large_tensors(proto), weights, what)
    named_shapes = {name: tuple(int(dim) for dim in shape) for name, shape in (shapes or {}).items()}
    settle_ranks(model, example_inputs, named_shapes)
    name_dimensions(model)
    infos = input_infos(model)
    arrays, guessed = example_arrays(infos, example_inputs, named_shapes, seed, _opt(batch))

    original = proto.SerializeToString() if external or proto is not as_read else data
    reference = OnnxReference(original, external, infos, [value.name for value in proto.graph.output], what)
    if guessed:
        _try_guess(reference, arrays, guessed)
    model = settle_opset(model, reference, arrays)
    _infer_shapes(model)
    return ImportedModel(
        model=model,
        reference=reference,
        name=_name(source, proto),
        source=what,
        example_inputs=arrays,
        versions=installed_versions(_PACKAGES),
    )


def _read(source: str | Path | bytes) -> tuple[str, bytes]:
    """How people call the source, and its bytes."""
    if isinstance(source, bytes | bytearray | memoryview):
        return "the ONNX model given as bytes", bytes(source)
    if isinstance(source, str | Path):
        return str(source), read_file(Path(source))
    raise ConfigError(f"an ONNX model is a path or bytes, got {type(source).__name__}")


def _name(source: str | Path | bytes, proto: onnx.ModelProto) -> str:
    return proto.graph.name or "model" if isinstance(source, bytes) else Path(source).stem


def _opt(batch: int | Sequence[int] | None) -> int | None:
    if batch is None or isinstance(batch, int):
        return batch
    return batch[len(batch) // 2]


def _load_external(proto: onnx.ModelProto, folder: Path | None) -> dict[str, Array]:
    """The external initializers as arrays over the mapped files, by name.

    In ``proto`` their location becomes a harmless word: nothing that reads it later can be led to a file.
    Other external tensors, in attributes and inner graphs, are small: their bytes are put in place.
    """
    outside = [pair for pair in all_tensors(proto) if pair[0].data_location == onnx.TensorProto.EXTERNAL]
    if not outside:
        return {}
    if folder is None:
        raise ExternalDataError(
            f"the model has {len(outside)} tensors in external files ({outside[0][0].name!r} first), which "
            "bytes cannot name safely; give the model's path instead"
        )
    arrays: dict[str, Array] = {}
    with DataFolder(folder) as files:
        for tensor, is_initializer in outside:
            dtype = DataType.from_onnx(tensor.data_type)
            if dtype is DataType.STRING:
                raise ExternalDataError(f"tensor {tensor.name!r}: strings cannot be external data; re-export the model")
            entry = ExternalEntry.parse(tensor.name, [(pair.key, pair.value) for pair in tensor.external_data])
            data = files.read(entry, tensor_nbytes(tensor))
            del tensor.external_data[:]
            if is_initializer:
                tensor.external_data.add(key="location", value=_ELSEWHERE)
                tensor.external_data.add(key="length", value=str(len(data)))
                arrays[tensor.name] = _as_array(data, dtype, tuple(tensor.dims))
            else:
                tensor.raw_data = bytes(data)
                tensor.data_location = onnx.TensorProto.DEFAULT
    return arrays


def _as_array(data: memoryview, dtype: DataType, shape: tuple[int, ...]) -> Array:
    raw = np.frombuffer(data, np.uint8)
    if dtype.bits < 8:
        return unpack(raw, dtype, shape)
    if raw.ctypes.data % dtype.numpy.alignment:
        raw = raw.copy()  # an offset that is no multiple of the element's size
    return raw.view(dtype.numpy).reshape(shape)


def _large_weights(proto: onnx.ModelProto, external: Mapping[str, Array]) -> dict[str, ir.TensorProtocol]:
    """The weights that ``without_large_tensors`` leaves out, by name; not copied."""
    weights: dict[str, ir.TensorProtocol] = {}
    for tensor in proto.graph.initializer:
        if tensor.name in external:
            array = external[tensor.name]
            weights[tensor.name] = ir.Tensor(array, ir.DataType(tensor.data_type), name=tensor.name)
        elif tensor_nbytes(tensor) > INLINE_LIMIT:
            weights[tensor.name] = ir.from_proto(tensor)
    return weights


def _to_ir(small: onnx.ModelProto, weights: Mapping[str, ir.TensorProtocol], what: str) -> ir.Model:
    """The IR of ``small``, with the weights that it lists as inputs put back, and its functions inlined."""
    try:
        model = ir.from_proto(small)
    except (ValueError, TypeError, KeyError, RuntimeError) as err:
        raise ModelImportError(f"{what} is not a valid ONNX model: {' '.join(str(err).split())[:800]}") from err
    graph = model.graph
    for value in list(graph.inputs):
        if value.name is not None and value.name in weights:
            value.const_value = weights[value.name]
            graph.register_initializer(value)
    # Before IR version 4 every initializer was an input as well. Callers give only the others.
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)
    if model.functions:
        InlinePass()(model)
    return model


def _infer_shapes(model: ir.Model) -> None:
    """Types and shapes for every value, as far as ONNX can tell; weights are not serialised for it."""
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


def _try_guess(reference: OnnxReference, arrays: Mapping[str, Array], guessed: list[str]) -> None:
    """Dimensions whose size nobody gave were set to 1: does the model take that?"""
    try:
        reference(arrays)
    except UnsupportedError as err:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ConfigError(
            f"the model does not run with made-up inputs of shapes {shapes}: {err}\n"
            f"Say how large these dimensions are, with shapes= or example inputs: {', '.join(guessed)}"
        ) from err
