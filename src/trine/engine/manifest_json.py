"""The manifest as JSON and back.

Reading trusts nothing: whatever is wrong is an EngineFormatError with section "manifest".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import Manifest, TensorInfo
from trine.engine.strict_json import MAX_DEPTH, integer, items, record, text
from trine.errors import ConfigError, EngineFormatError
from trine.profile import OptimizationProfile, ShapeRange

__all__ = ["manifest_from_json", "manifest_to_json"]

_SECTION = "manifest"
_KEYS = tuple(field.name for field in dataclasses.fields(Manifest))
_MAX_TENSORS = 4096
_MAX_RANK = 64
_MAX_DEPTH = MAX_DEPTH - 1  # of what is inside the manifest's own object


def manifest_to_json(manifest: Manifest) -> dict[str, Any]:
    """Plain JSON values. NumPy scalars become numbers; NaN and infinities the strings "nan", "inf", "-inf".

    Raises ConfigError, naming the place, for a value that JSON cannot hold.
    """
    return {
        "name": manifest.name,
        "source": manifest.source,
        "inputs": [_tensor_to_json(info) for info in manifest.inputs],
        "outputs": [_tensor_to_json(info) for info in manifest.outputs],
        "profile": manifest.profile.to_json(),
        "precision": manifest.precision,
        "input_structure": _plain(manifest.input_structure, "input_structure"),
        "output_structure": _plain(manifest.output_structure, "output_structure"),
        "created": manifest.created,
        "versions": _plain(manifest.versions, "versions"),
        "evidence": _plain(manifest.evidence, "evidence"),
        "build": _plain(manifest.build, "build"),
    }


def _tensor_to_json(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "dtype": info.dtype.value, "shape": list(info.shape)}


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(entry, f"{where}.{key}", depth + 1) for key, entry in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple)):
        return [_plain(entry, f"{where}[{number}]", depth + 1) for number, entry in enumerate(value)]
    raise ConfigError(
        f"the manifest's {where} is a {type(value).__name__}; "
        f"wanted JSON: objects with string keys, lists, numbers, strings, at most {_MAX_DEPTH} deep"
    )


def manifest_from_json(value: Any, *, allow_unknown: bool = False) -> Manifest:
    """The manifest in parsed JSON. ``allow_unknown`` skips keys that a newer minor version added.

    Evidence and build are checked to be objects and otherwise kept as they are, the structures even unlooked at:
    those who use them check them.
    """
    value = record(value, "manifest", _SECTION, _KEYS, allow_unknown=allow_unknown)
    inputs = _tensors(value["inputs"], "inputs", allow_unknown)
    outputs = _tensors(value["outputs"], "outputs", allow_unknown)
    if not outputs:
        raise EngineFormatError("outputs: wanted at least one", _SECTION)
    versions = _object(value["versions"], "versions")
    return Manifest(
        name=text(value["name"], "name", _SECTION),
        source=text(value["source"], "source", _SECTION, 4096),
        inputs=inputs,
        outputs=outputs,
        profile=_profile(value["profile"], inputs, allow_unknown),
        precision=text(value["precision"], "precision", _SECTION, 64, empty=False),
        input_structure=value["input_structure"],
        output_structure=value["output_structure"],
        created=text(value["created"], "created", _SECTION, 64),
        versions={key: text(version, f"versions.{key[:80]}", _SECTION) for key, version in versions.items()},
        evidence=None if value["evidence"] is None else _object(value["evidence"], "evidence"),
        build=_object(value["build"], "build"),
    )


def _object(value: Any, where: str) -> dict[str, Any]:
    return record(value, where, _SECTION, (), allow_unknown=True)


def _tensors(value: Any, where: str, allow_unknown: bool) -> tuple[TensorInfo, ...]:
    infos = []
    for number, entry in enumerate(items(value, where, _SECTION, _MAX_TENSORS)):
        at = f"{where}[{number}]"
        entry = record(entry, at, _SECTION, ("name", "dtype", "shape"), allow_unknown=allow_unknown)
        name = text(entry["name"], f"{at}.name", _SECTION, empty=False)
        dtype = dtype_from_json(entry["dtype"], f"{at}.dtype", _SECTION)
        shape = items(entry["shape"], f"{at}.shape", _SECTION, _MAX_RANK)
        infos.append(TensorInfo(name, dtype, tuple(_dim(dim, f"{at}.shape") for dim in shape)))
    names = [info.name for info in infos]
    if len(set(names)) != len(names):
        raise EngineFormatError(f"{where}: two have the same name", _SECTION)
    return tuple(infos)


def dtype_from_json(value: Any, where: str, section: str) -> DataType:
    """The type with this exact name."""
    name = text(value, where, section, 64)
    try:
        return DataType(name)
    except ValueError:
        known = ", ".join(dtype.value for dtype in DataType)
        raise EngineFormatError(f"{where}: dtype {name!r} is unknown; known: {known}", section) from None


def _dim(value: Any, where: str) -> int | str:
    return text(value, where, _SECTION, 256, empty=False) if isinstance(value, str) else integer(value, where, _SECTION)


def _profile(value: Any, inputs: tuple[TensorInfo, ...], allow_unknown: bool) -> OptimizationProfile:
    ranks = {info.name: len(info.shape) for info in inputs}
    ranges = {}
    for name, entry in _object(value, "profile").items():
        at = f"profile.{name[:80]}"
        if name not in ranks:
            raise EngineFormatError(f"{at}: there is no such input", _SECTION)
        entry = record(entry, at, _SECTION, ("min", "opt", "max"), allow_unknown=allow_unknown)
        low, mid, high = (
            tuple(
                integer(dim, f"{at}.{key}", _SECTION) for dim in items(entry[key], f"{at}.{key}", _SECTION, _MAX_RANK)
            )
            for key in ("min", "opt", "max")
        )
        if len(low) != ranks[name]:
            raise EngineFormatError(f"{at}: {len(low)} dimensions, but the input has {ranks[name]}", _SECTION)
        try:
            ranges[name] = ShapeRange(low, mid, high)
        except ConfigError as err:
            raise EngineFormatError(f"{at}: {err}", _SECTION) from err
    return OptimizationProfile(ranges)
