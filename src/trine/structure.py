"""JSON descriptions of nested inputs and outputs, so that an engine takes and gives what the model did.

A *spec* is plain JSON. Its kinds::

    {"kind": "tensor", "name": "logits"}                              a leaf, by name
    {"kind": "constant", "value": 3}                                  None, bool, int, str or a finite float
    {"kind": "float", "value": "inf"}                                 the floats that JSON cannot spell
    {"kind": "tuple" | "list", "items": [spec, ...]}
    {"kind": "dict", "keys": ["a", 0, ...], "items": [spec, ...]}
    {"kind": "namedtuple" | "dataclass", "type": "Out", "keys": ["a", ...], "items": [spec, ...]}
    {"kind": "call", "parameters": [{"name": "x", "form": form, "value": spec}, ...]}

``form`` is "positional" (also by keyword), "positional_only", "keyword", "star" (``*args``) or "double_star".
Nothing here runs code from the spec: dataclasses and namedtuples are made anew with the same name and fields.
"""

from __future__ import annotations

import dataclasses
import functools
import keyword
import math
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trine.errors import EngineFormatError, InputError, ModelImportError

__all__ = ["describe", "flatten_call", "leaf_names", "rebuild", "rebuild_call", "spec_from_json"]

Spec = dict[str, Any]
_MAX_DEPTH = 32  # bounds recursion on hostile files; real models nest two or three deep
_FORMS = ("positional", "positional_only", "keyword", "star", "double_star")


def describe(value: Any, is_tensor: Callable[[Any], bool], name: str) -> tuple[Spec, dict[str, Any]]:
    """The spec of ``value`` and its tensors by name.

    Names come from the path: ``name`` itself for a bare tensor, ``name.0`` in a tuple or list, ``name.key`` in a
    dict or dataclass; an empty ``name`` leaves out the first part. Raises ModelImportError for other types.
    """
    leaves: dict[str, Any] = {}
    return _describe(value, is_tensor, name, leaves, 0), leaves


def _describe(value: Any, is_tensor: Callable[[Any], bool], name: str, leaves: dict[str, Any], depth: int) -> Spec:
    if depth > _MAX_DEPTH:
        raise ModelImportError(f"{name!r} nests deeper than {_MAX_DEPTH} levels; flatten it")
    if is_tensor(value):
        if name in leaves:
            raise ModelImportError(f"two tensors would both be called {name!r}; rename a key or a field")
        leaves[name] = value
        return {"kind": "tensor", "name": name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"kind": "float", "value": str(value)}
    if value is None or type(value) in (bool, int, float, str):
        return {"kind": "constant", "value": value}

    kind, keys, items = _children(value, name)
    specs = [
        _describe(item, is_tensor, f"{name}.{key}" if name else str(key), leaves, depth + 1)
        for key, item in zip(keys, items, strict=True)
    ]
    if kind in ("tuple", "list"):
        return {"kind": kind, "items": specs}
    if kind == "dict":
        return {"kind": kind, "keys": list(keys), "items": specs}
    return {"kind": kind, "type": type(value).__name__, "keys": list(keys), "items": specs}


def _children(value: Any, name: str) -> tuple[str, Sequence[Any], Sequence[Any]]:
    """The kind, keys and items of a container. Raises ModelImportError for what is none."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        keys = [field.name for field in dataclasses.fields(value)]
        return "dataclass", keys, [getattr(value, key) for key in keys]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "namedtuple", list(value._fields), list(value)
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise ModelImportError(
                    f"{name!r} is a dict with the key {key!r} of type {type(key).__name__}; use str or int keys"
                )
        return "dict", list(value), list(value.values())
    if isinstance(value, tuple | list):
        # torch.return_types.* and other named sequences are plain tuples to us.
        return ("list" if isinstance(value, list) else "tuple"), range(len(value)), list(value)
    cache = "Cache" in type(value).__qualname__ and type(value).__module__.startswith("transformers.")
    raise ModelImportError(
        f"{name!r} is a {type(value).__module__}.{type(value).__qualname__}; expected a tensor, None, bool, int, "
        "float or str, or a tuple, list, dict, namedtuple or dataclass of these. "
        + (
            "Give use_cache=False among the example inputs, or set model.config.use_cache = False"
            if cache
            else "Wrap the module in one that takes and returns only such values"
        )
    )


def leaf_names(spec: Spec) -> list[str]:
    """The tensors' names, in order."""
    if spec["kind"] == "tensor":
        return [spec["name"]]
    return [name for item in _parts(spec) for name in leaf_names(item)]


def _parts(spec: Spec) -> Iterable[Spec]:
    if spec["kind"] == "call":
        return [parameter["value"] for parameter in spec["parameters"]]
    items: list[Spec] = spec.get("items", [])
    return items


def rebuild(spec: Spec, leaves: Mapping[str, Any]) -> Any:
    """The value that ``spec`` describes, with ``leaves`` in place of its tensors."""
    kind = spec["kind"]
    if kind == "tensor":
        return leaves[spec["name"]]
    if kind == "constant":
        return spec["value"]
    if kind == "float":
        return float(spec["value"])
    items = [rebuild(item, leaves) for item in spec["items"]]
    if kind == "tuple":
        return tuple(items)
    if kind == "list":
        return items
    if kind == "dict":
        return dict(zip(spec["keys"], items, strict=True))
    maker = _namedtuple_type if kind == "namedtuple" else _dataclass_type
    return maker(spec["type"], tuple(spec["keys"]))(*items)


@functools.lru_cache(maxsize=256)
def _namedtuple_type(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)


@functools.lru_cache(maxsize=256)
def _dataclass_type(name: str, fields: tuple[str, ...]) -> Any:
    def item(self: Any, key: str) -> Any:
        if key not in fields:
            raise KeyError(key)
        return getattr(self, key)

    return dataclasses.make_dataclass(name, fields, namespace={"__getitem__": item}, eq=False)


def rebuild_call(spec: Spec, leaves: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The ``(args, kwargs)`` that a "call" spec describes."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in spec["parameters"]:
        value = rebuild(parameter["value"], leaves)
        match parameter["form"]:
            case "star":
                args.extend(value)
            case "double_star":
                kwargs.update(value)
            case "keyword":
                kwargs[parameter["name"]] = value
            case _:
                args.append(value)
    return tuple(args), kwargs


def flatten_call(spec: Spec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a call, by input name. The inverse of ``rebuild_call``.

    Raises InputError for missing, extra or misnamed arguments, another nesting, or another value for an argument
    that is no tensor and so was fixed when the engine was built.
    """
    takes = [parameter["name"] for parameter in spec["parameters"]]
    pending, remaining = list(args), dict(kwargs)
    leaves: dict[str, Any] = {}
    for parameter in spec["parameters"]:
        name, form, value = parameter["name"], parameter["form"], parameter["value"]
        if form == "star":
            given: Any = tuple(pending)
            pending = []
        elif form == "double_star":
            given = {key: remaining.pop(key) for key in value["keys"] if key in remaining}
        elif pending and form != "keyword":
            given = pending.pop(0)
            if name in remaining and form == "positional":
                raise InputError(f"argument {name!r} was given twice, by position and by name; give it once")
        elif name in remaining and form != "positional_only":
            given = remaining.pop(name)
        elif not leaf_names(value):
            continue  # fixed when the engine was built
        else:
            raise InputError(f"argument {name!r} is missing; the engine takes {', '.join(takes)}")
        _flatten(value, given, name, leaves)
    if pending:
        raise InputError(
            f"{len(pending)} positional argument(s) too many: got {len(args)}; the engine takes {', '.join(takes)}"
        )
    if remaining:
        extra = ", ".join(repr(key) for key in remaining)
        raise InputError(f"argument(s) {extra} unknown; the engine takes {', '.join(takes)}")
    return leaves


def _flatten(spec: Spec, given: Any, path: str, leaves: dict[str, Any]) -> None:
    kind = spec["kind"]
    if kind == "tensor":
        if given is None or not hasattr(given, "shape"):
            raise InputError(f"{path!r} is {_type(given)}; expected an array. Use numpy.asarray or a torch tensor")
        leaves[spec["name"]] = given
    elif kind in ("constant", "float"):
        fixed = rebuild(spec, {})
        same = type(given) is type(fixed) and (given == fixed or (given != given and fixed != fixed))
        if not same:
            got = repr(given) if isinstance(given, bool | int | float | str) else _type(given)
            raise InputError(
                f"{path!r} is {got}, but the engine was built with {fixed!r}, which is part of the graph; "
                "build another engine for another value"
            )
    elif kind in ("tuple", "list", "namedtuple"):
        if not isinstance(given, tuple | list):
            raise InputError(f"{path!r} is {_type(given)}; expected a {kind} of {len(spec['items'])}")
        if len(given) != len(spec["items"]):
            raise InputError(f"{path!r} has {len(given)} items; expected {len(spec['items'])}")
        for index, (item, value) in enumerate(zip(spec["items"], given, strict=True)):
            _flatten(item, value, f"{path}.{index}", leaves)
    else:
        values = _fields(given) if kind == "dataclass" else given
        if not isinstance(values, Mapping):
            raise InputError(f"{path!r} is {_type(given)}; expected a {kind} with {_list(spec['keys'])}")
        wrong = [f"missing {_list(missing)}"] if (missing := [k for k in spec["keys"] if k not in values]) else []
        wrong += [f"unknown {_list(extra)}"] if (extra := [k for k in values if k not in spec["keys"]]) else []
        if wrong:
            raise InputError(f"{path!r}: {'; '.join(wrong)}; expected the keys {_list(spec['keys'])}")
        for key, item in zip(spec["keys"], spec["items"], strict=True):
            _flatten(item, values[key], f"{path}.{key}", leaves)


def _fields(value: Any) -> Any:
    """A dataclass instance as a dict; anything else as it is."""
    if not dataclasses.is_dataclass(value):
        return value
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _type(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _list(keys: Iterable[Any]) -> str:
    return ", ".join(repr(key) for key in keys)


def spec_from_json(obj: Any, names: Sequence[str], *, call: bool = False) -> Spec:
    """Checks a spec read from a file: only known kinds, sane keys, each of ``names`` exactly once.

    ``call``: whether it must be a "call" spec (inputs) or must not (outputs). Raises EngineFormatError("manifest").
    """
    is_call = isinstance(obj, dict) and obj.get("kind") == "call"
    if is_call != call:
        raise _bad(f"expected {'a call' if call else 'a value'}", obj)
    spec = _checked_call(obj) if is_call else _checked(obj, 0)
    found = leaf_names(spec)
    if sorted(found) != sorted(names):
        raise EngineFormatError(f"structure names the tensors {found}, expected {list(names)}", "manifest")
    return spec


def _checked_call(obj: Any) -> Spec:
    parameters = obj.get("parameters")
    if set(obj) != {"kind", "parameters"} or not isinstance(parameters, list):
        raise _bad("a call", obj)
    checked = []
    for parameter in parameters:
        if not isinstance(parameter, dict) or set(parameter) != {"name", "form", "value"}:
            raise _bad("a parameter", parameter)
        if not isinstance(parameter["name"], str) or parameter["form"] not in _FORMS:
            raise _bad("a parameter", parameter)
        value = _checked(parameter["value"], 0)
        wanted = {"star": "tuple", "double_star": "dict"}.get(parameter["form"], value["kind"])
        if value["kind"] != wanted:
            raise _bad(f"a {wanted}", parameter)
        checked.append({**parameter, "value": value})
    return {"kind": "call", "parameters": checked}


def _checked(obj: Any, depth: int) -> Spec:
    if not isinstance(obj, dict) or depth > _MAX_DEPTH:
        raise _bad("a spec", obj)
    kind = obj.get("kind")
    if kind == "tensor" and set(obj) == {"kind", "name"} and isinstance(obj["name"], str):
        return dict(obj)
    if kind == "constant" and set(obj) == {"kind", "value"}:
        if obj["value"] is None or type(obj["value"]) in (bool, int, float, str):
            return dict(obj)
    elif kind == "float" and set(obj) == {"kind", "value"} and obj["value"] in ("inf", "-inf", "nan"):
        return dict(obj)
    elif kind in _CONTAINER_KEYS and set(obj) == _CONTAINER_KEYS[kind] and isinstance(obj["items"], list):
        if "keys" in obj:
            _check_keys(obj)
        return {**obj, "items": [_checked(item, depth + 1) for item in obj["items"]]}
    raise _bad("a spec", obj)


_CONTAINER_KEYS = {
    "tuple": {"kind", "items"},
    "list": {"kind", "items"},
    "dict": {"kind", "keys", "items"},
    "namedtuple": {"kind", "type", "keys", "items"},
    "dataclass": {"kind", "type", "keys", "items"},
}


def _check_keys(obj: Spec) -> None:
    keys = obj["keys"]
    if not isinstance(keys, list) or len(keys) != len(obj["items"]):
        raise _bad("as many keys as items", obj)
    # Field and type names become identifiers; collections and dataclasses refuse others with their own errors.
    names = [] if obj["kind"] == "dict" else [*keys, obj["type"]]
    for key in keys:
        if type(key) is not str and (names or type(key) is not int):
            raise _bad("a key", key)
    for name in names:
        if type(name) is not str or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
            raise _bad("an identifier", name)
    if obj["kind"] == "namedtuple" and any(key.startswith("_") for key in keys):
        raise _bad("namedtuple fields without a leading underscore", obj)
    if len(set(keys)) != len(keys):
        raise _bad("distinct keys", obj)


def _bad(wanted: str, got: Any) -> EngineFormatError:
    return EngineFormatError(f"structure: expected {wanted}, got {repr(got)[:120]}", "manifest")
