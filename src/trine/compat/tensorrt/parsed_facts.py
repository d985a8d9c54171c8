"""What ONNX's inference knows of a parsed model's values, and other shapes for its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.shape_inference

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.importers.onnx_proto import without_large_tensors

__all__ = ["Fact", "facts_of", "reshape_input"]

Fact = tuple[tuple[int | str, ...] | None, DataType | None]


def facts_of(model: onnx.ModelProto) -> dict[str, Fact]:
    """Shape and type of every value, as far as ONNX's inference finds them."""
    graph = _inferred(model).graph
    return {value.name: _of(value) for value in (*graph.value_info, *graph.input, *graph.output)}


def reshape_input(model: onnx.ModelProto, name: str, shape: Sequence[int]) -> None:
    """Give input ``name`` another shape, -1 for dynamic dimensions; what follows from the old one is inferred anew.

    Raises ConfigError for another number of dimensions than the model's.
    """
    graph = model.graph
    value = next(each for each in graph.input if each.name == name)
    before = _of(value)[0]
    if before is not None and len(before) != len(shape):
        raise ConfigError(f"input {name!r}: the model's has {len(before)} dimensions, {before}; got {tuple(shape)}")
    fixed: dict[str, int] = {}
    value.type.tensor_type.ClearField("shape")
    for axis, size in enumerate(shape):
        dim = value.type.tensor_type.shape.dim.add()
        old = None if before is None else before[axis]
        if size >= 0:
            dim.dim_value = size
            if isinstance(old, str):
                fixed[old] = size
        else:
            dim.dim_param = old if isinstance(old, str) else f"{name}_{axis}"
    del graph.value_info[:]
    declared = [_of(output)[0] for output in graph.output]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    found = {each.name: _of(each)[0] for each in _inferred(model).graph.output}
    for output, old_dims in zip(graph.output, declared, strict=True):
        dims = found.get(output.name)
        if dims is None and old_dims is not None:
            dims = tuple(fixed.get(dim, dim) if isinstance(dim, str) else f"{output.name}_{n}"
                         for n, dim in enumerate(old_dims))  # fmt: skip
        for size_or_symbol in dims or ():
            dim = output.type.tensor_type.shape.dim.add()
            if isinstance(size_or_symbol, str):
                dim.dim_param = size_or_symbol
            else:
                dim.dim_value = size_or_symbol
        if dims == ():
            output.type.tensor_type.shape.SetInParent()


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(without_large_tensors(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):  # then only what the file says is known
        return model


def _of(value: onnx.ValueInfoProto) -> Fact:
    kind = value.type.tensor_type
    try:
        dtype: DataType | None = DataType.from_onnx(kind.elem_type)
    except ConfigError:
        dtype = None
    if not kind.HasField("shape"):
        return None, dtype
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{axis}"
        for axis, dim in enumerate(kind.shape.dim)
    )
    return dims, dtype
