"""The inputs of an ONNX model: what the file says of them, and the example inputs to build and check with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError, InputError, UnsupportedError
from trine.importers.imported_model import Arrays
from trine.runtime.arrays import as_numpy
from trine.verify.inputs import random_inputs

__all__ = ["example_arrays", "input_infos", "name_dimensions", "settle_ranks"]

Array = np.ndarray[Any, Any]


def settle_ranks(model: ir.Model, example_inputs: Any, shapes: Mapping[str, tuple[int, ...]] | None) -> None:
    """Give inputs that the file leaves without a shape the rank that the example or ``shapes`` shows."""
    arrays = given_arrays([value.name or "" for value in model.graph.inputs], example_inputs)
    for value in model.graph.inputs:
        if value.shape is not None:
            continue
        name = value.name or ""
        if shapes is not None and name in shapes:
            rank = len(shapes[name])
        elif name in arrays:
            rank = arrays[name].ndim
        else:
            raise UnsupportedError(
                f"input {name!r}: the file does not say how many dimensions it has; pass shapes={{{name!r}: (...)}} or "
                "example inputs"
            )
        value.shape = ir.Shape([None] * rank)


def name_dimensions(model: ir.Model) -> None:
    """Give every unnamed dynamic dimension of an input a name; the file's own names stay.

    Unnamed first dimensions are all called "batch", as exporters mean them; others "<input>_<axis>".
    """
    taken = {
        str(dim.value)
        for value in model.graph.inputs
        for dim in value.shape or ()
        if not isinstance(dim, int) and dim.value is not None
    }
    for value in model.graph.inputs:
        if value.shape is None:
            continue
        dims: list[int | str] = []
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, int):
                dims.append(dim)
            elif dim.value is not None:
                dims.append(str(dim.value))
            else:
                name = "batch" if axis == 0 else f"{value.name}_{axis}"
                while name in taken:
                    name += "_"
                dims.append(name)
        value.shape = ir.Shape(dims)


def input_infos(model: ir.Model) -> list[TensorInfo]:
    """Name, dtype and shape of every input. Their shapes must be settled and named."""
    infos = []
    for value in model.graph.inputs:
        assert value.shape is not None
        assert value.dtype is not None
        shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
        infos.append(TensorInfo(value.name or "", DataType.from_onnx(int(value.dtype)), shape))
    return infos


def given_arrays(names: Sequence[str], example_inputs: Any) -> Arrays:
    """What the user gave, by input name. Raises InputError for missing, extra and misnamed inputs."""
    if example_inputs is None:
        return {}
    if isinstance(example_inputs, Mapping):
        wrong = [str(name) for name in example_inputs if name not in names]
        missing = [name for name in names if name not in example_inputs]
        if wrong or missing:
            parts = [f"unknown {wrong}"] * bool(wrong) + [f"missing {missing}"] * bool(missing)
            raise InputError(f"example inputs: {' and '.join(parts)}; the model's inputs are {list(names)}")
        values = [example_inputs[name] for name in names]
    elif isinstance(example_inputs, list | tuple):
        values = list(example_inputs)
    else:
        values = [example_inputs]
    if len(values) != len(names):
        raise InputError(
            f"example inputs: got {len(values)}, wanted {len(names)}: {list(names)}; a single array may be given "
            "alone, several as a tuple or a dict by name"
        )
    return {name: as_numpy(name, value) for name, value in zip(names, values, strict=True)}


def example_arrays(
    infos: Sequence[TensorInfo],
    example_inputs: Any,
    shapes: Mapping[str, tuple[int, ...]] | None,
    seed: int,
    batch: int | None,
) -> tuple[Arrays, list[str]]:
    """The example inputs, checked or made up; and the dynamic dimensions whose size was guessed to be 1.

    Raises InputError for arrays that do not fit the model, ConfigError for shapes that do not.
    """
    if example_inputs is not None:
        arrays = given_arrays([info.name for info in infos], example_inputs)
        sizes: dict[str, tuple[int, str]] = {}
        return {info.name: _fitted(info, arrays[info.name], sizes) for info in infos}, []
    chosen, guessed = _choose_shapes(infos, shapes or {}, batch)
    return random_inputs(infos, chosen, seed), guessed


def _fitted(info: TensorInfo, array: Array, sizes: dict[str, tuple[int, str]]) -> Array:
    if array.ndim != len(info.shape):
        raise InputError(
            f"example input {info.name!r}: expected {len(info.shape)} dimensions {list(info.shape)}, got {array.ndim} "
            f"{list(array.shape)}; reshape it"
        )
    for axis, (dim, size) in enumerate(zip(info.shape, array.shape, strict=True)):
        here = f"{info.name!r} axis {axis}"
        if isinstance(dim, int):
            if dim != size:
                raise InputError(
                    f"example input {info.name!r}: axis {axis} must be {dim}, got {size}; the model takes "
                    f"{list(info.shape)}, got {list(array.shape)}"
                )
        elif sizes.setdefault(dim, (size, here))[0] != size and dim != "batch":
            other, where = sizes[dim]
            raise InputError(
                f"example inputs: dimension {dim!r} is {other} in {where} but {size} in {here}; make them equal"
            )
    wanted = info.dtype
    if wanted is DataType.STRING:
        if array.dtype.kind not in "OSU":
            raise InputError(f"example input {info.name!r}: expected strings, got {array.dtype}")
        return array.astype(object)
    if array.dtype == wanted.numpy:
        return np.ascontiguousarray(array).reshape(array.shape)
    if np.can_cast(array.dtype, wanted.numpy, "same_kind"):
        return np.asarray(array).astype(wanted.numpy)
    raise InputError(
        f"example input {info.name!r}: expected dtype {wanted.value}, got {array.dtype}; convert it with "
        f".astype({wanted.value!r})"
    )


def _choose_shapes(
    infos: Sequence[TensorInfo], shapes: Mapping[str, tuple[int, ...]], batch: int | None
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    names = [info.name for info in infos]
    unknown = [name for name in shapes if name not in names]
    if unknown:
        raise ConfigError(f"shapes: the model has no input {unknown[0]!r}; its inputs are {names}")
    sizes: dict[str, int] = {}
    for info in infos:
        wanted = shapes.get(info.name)
        if wanted is None:
            continue
        wrong = len(wanted) != len(info.shape) or any(
            isinstance(dim, int) and dim != size for dim, size in zip(info.shape, wanted, strict=False)
        )
        if wrong or any(size < 0 for size in wanted):
            raise ConfigError(f"shapes[{info.name!r}]: got {list(wanted)}, the model takes {list(info.shape)}")
        sizes.update((dim, size) for dim, size in zip(info.shape, wanted, strict=True) if isinstance(dim, str))
    if batch is not None:
        for info in infos:
            if info.shape and isinstance(info.shape[0], str):
                sizes.setdefault(info.shape[0], batch)
    guessed = []
    chosen = {}
    for info in infos:
        dims = []
        for axis, dim in enumerate(info.shape):
            if isinstance(dim, str) and dim not in sizes and axis > 0:
                guessed.append(f"{info.name!r} axis {axis} ({dim})")
            dims.append(dim if isinstance(dim, int) else sizes.get(dim, 1))
        chosen[info.name] = shapes.get(info.name, tuple(dims))
    return chosen, guessed
