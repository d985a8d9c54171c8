"""Properties of layers and tensors that stand for a property of trine's layer, with the types that TensorRT shows.

A value that trine refuses is logged, as TensorRT does, and the property keeps what it had.

In a network with an implicit batch dimension programs count axes without it; trine's graph has it as axis 0. ``axis``,
``axes`` (a bit mask), ``whole_shape`` and ``permutation`` translate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trine.compat.tensorrt.dims import Dims, Permutation
from trine.compat.tensorrt.enums import DataType, current, member_name
from trine.compat.tensorrt.eras import warn_retired
from trine.compat.tensorrt.foundation import as_array, from_trine, to_trine
from trine.errors import TrineError

__all__ = [
    "axes",
    "axis",
    "boolean",
    "dims",
    "dtype",
    "enum",
    "integer",
    "number",
    "old_name",
    "permutation",
    "text",
    "trine_member",
    "weights",
    "whole_shape",
]

Convert = Callable[[Any, int], Any]  # of a value and of how many axes are hidden: 1 with an implicit batch, else 0


def _forwarded(name: str, doc: str, read: Convert, write: Convert | None, onto: str | None = None) -> Any:
    theirs = onto or name

    def get(self: Any) -> Any:
        return read(getattr(self._layer, theirs), self._network._hidden_axes)

    def put(self: Any, value: Any) -> None:
        assert write is not None
        converted = write(value, self._network._hidden_axes)
        try:
            setattr(self._layer, theirs, converted)
        except (TrineError, ValueError) as err:
            self._network._reporter.failed(f"{type(self).__name__}::{name} of layer {self.name!r}", err)

    return property(get, None if write is None else put, doc=doc)


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(int(item) for item in value)


def integer(name: str, doc: str) -> Any:
    """A whole number."""
    return _forwarded(name, doc, lambda value, _: value, lambda value, _: int(value))


def number(name: str, doc: str) -> Any:
    """A float."""
    return _forwarded(name, doc, lambda value, _: value, lambda value, _: float(value))


def boolean(name: str, doc: str) -> Any:
    """A bool."""
    return _forwarded(name, doc, lambda value, _: value, lambda value, _: bool(value))


def text(name: str, doc: str) -> Any:
    """A str."""
    return _forwarded(name, doc, lambda value, _: value, lambda value, _: str(value))


def dims(name: str, doc: str, onto: str | None = None) -> Any:
    """Sizes of spatial dimensions, which do not count the batch."""
    return _forwarded(name, doc, lambda value, _: _show(value), lambda value, _: _ints(value), onto)


def _show(value: Any) -> Dims:
    return Dims([] if value is None else [item if isinstance(item, int) else -1 for item in value])


def whole_shape(name: str, doc: str, batch: int) -> Any:
    """One number for every dimension; the hidden batch gets ``batch``."""
    return _forwarded(
        name,
        doc,
        lambda value, hidden: _show(value if value is None else value[hidden:]),
        lambda value, hidden: (batch,) * hidden + _ints(value),
    )


def permutation(name: str, doc: str) -> Any:
    """An order of dimensions; the hidden batch stays first."""

    def read(value: Any, hidden: int) -> Permutation:
        order = () if value is None else tuple(value)
        return Permutation([item - hidden for item in order[hidden:]])

    def write(value: Any, hidden: int) -> tuple[int, ...]:
        return (*range(hidden), *(item + hidden for item in _ints(value)))

    return _forwarded(name, doc, read, write)


def axis(name: str, doc: str) -> Any:
    """The number of a dimension."""
    return _forwarded(
        name,
        doc,
        lambda value, hidden: value if value is None or value < 0 else value - hidden,
        lambda value, hidden: int(value) if int(value) < 0 else int(value) + hidden,
    )


def mask(value: Any) -> int:
    """A bit for each axis, from a mask or a sequence of axes."""
    if isinstance(value, int | np.integer):
        return int(value)
    return sum(1 << int(item) for item in value)


def axes(name: str, doc: str) -> Any:
    """A bit mask of dimensions."""
    return _forwarded(
        name, doc, lambda value, hidden: mask(value) >> hidden, lambda value, hidden: int(value) << hidden
    )


def enum(name: str, kind: str, doc: str, onto: str | None = None) -> Any:
    """A member of the enum ``kind``."""
    return _forwarded(
        name, doc, lambda value, _: current(kind)[member_name(value)], lambda value, _: trine_member(kind, value), onto
    )


def weights(name: str, doc: str) -> Any:
    """An array of weights. Set: copied; read: a NumPy array, empty where there are none."""

    def read(value: Any, _: int) -> np.ndarray:
        return np.empty(0, np.float32) if value is None else np.asarray(value)

    return _forwarded(name, doc, read, lambda value, _: as_array(value))


def dtype(name: str, doc: str) -> Any:
    """An element type."""

    def read(value: Any, _: int) -> DataType:
        return from_trine(value)

    return _forwarded(name, doc, read, lambda value, _: to_trine(value))


def old_name(name: str, instead: str) -> Any:
    """A name of TensorRT 8 and older for the property ``instead``; warns once."""

    def get(self: Any) -> Any:
        warn_retired(f"{type(self).__name__}.{name}", instead)
        return getattr(self, instead)

    def put(self: Any, value: Any) -> None:
        warn_retired(f"{type(self).__name__}.{name}", instead)
        setattr(self, instead, value)

    return property(get, put, doc=f"What is called ``{instead}`` now.")


def trine_member(kind: str, value: Any) -> str:
    """The name by which ``trine.network`` knows a member of the enum ``kind``. Raises TypeError for what is none."""
    found = current(kind)
    name = member_name(value)
    if name not in found.__members__:
        raise TypeError(f"expected a member of tensorrt.{kind}, got {value!r}")
    return name
