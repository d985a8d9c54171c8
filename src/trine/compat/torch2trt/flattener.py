"""Nested arguments and results as a row of tensors, in torch2trt's order: a dict's values by sorted key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trine import structure
from trine.errors import InputError

__all__ = ["Flattener"]

_MAX_DEPTH = 64


class Flattener:
    """Takes apart values of one structure, and puts them together again.

    The structure is a spec of ``trine.structure``: plain JSON, checked when it is read, so that a saved module brings
    no code with it.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self._names = structure.leaf_names(spec)

    @classmethod
    def from_value(cls, value: Any) -> Flattener:
        """The structure of ``value``: tensors in tuples, lists, dicts, namedtuples and dataclasses.

        Raises ModelImportError for anything else in it.
        """
        spec, _ = structure.describe(_sorted(value), torch.is_tensor, "")
        return cls(spec)

    @classmethod
    def from_json(cls, saved: Any) -> Flattener:
        """The inverse of ``to_json``. Raises EngineFormatError for what that did not give."""
        size = saved.get("size") if isinstance(saved, Mapping) else None
        spec = saved.get("structure") if isinstance(saved, Mapping) else None
        names = structure_names(spec)
        if size != len(names):
            names = []  # spec_from_json then says that the tensors are not these
        return cls(structure.spec_from_json(spec, names))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, for a state_dict."""
        return {"structure": self.spec, "size": len(self)}

    @property
    def size(self) -> int:
        """How many tensors a value of this structure holds."""
        return len(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def flatten(self, value: Any, what: str = "value") -> list[Any]:
        """The tensors of ``value``, in order. Raises InputError, naming ``what``, for another structure."""
        parameter = {"name": what, "form": "positional_only", "value": self.spec}
        leaves = structure.flatten_call({"kind": "call", "parameters": [parameter]}, [_sorted(value)], {})
        return [leaves[name] for name in self._names]

    def unflatten(self, tensors: Sequence[Any]) -> Any:
        """The value with ``tensors`` in it. Raises InputError for another number of them."""
        if len(tensors) != len(self):
            raise InputError(f"expected {len(self)} tensors, got {len(tensors)}")
        return structure.rebuild(self.spec, dict(zip(self._names, tensors, strict=True)))


def structure_names(spec: Any, depth: int = 0) -> list[str]:
    """The names of the tensors in a spec that may be anything; [] where it is none, or nests absurdly deep."""
    if not isinstance(spec, Mapping) or depth > _MAX_DEPTH:
        return []
    if spec.get("kind") == "tensor":
        return [str(spec.get("name"))]
    items = spec.get("items")
    return [name for item in items for name in structure_names(item, depth + 1)] if isinstance(items, list) else []


def _sorted(value: Any) -> Any:
    """``value`` with each dict in it in the order of its keys."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    if type(value) in (tuple, list):
        return type(value)(_sorted(item) for item in value)
    return value
