"""Dims, Permutation, and what turns Python's sequences into them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from trine.compat.tensorrt.eras import govern, warn_retired

__all__ = ["Dims", "Dims2", "Dims3", "Dims4", "DimsHW", "Permutation", "volume"]


class _Vector:
    """A list of int64, as TensorRT's bindings show it: like a tuple, with items that can be set."""

    MAX_DIMS: ClassVar[int] = 8
    _values: list[int]

    def __init__(self, *shape: Any) -> None:
        if len(shape) == 1 and isinstance(shape[0], Iterable):
            shape = tuple(shape[0])
        values = [int(value) for value in shape]
        if len(values) > self.MAX_DIMS:
            raise ValueError(f"Input length {len(values)}. Max expected length is {self.MAX_DIMS}")
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def __getitem__(self, index: Any) -> Any:
        return tuple(self._values[index]) if isinstance(index, slice) else self._values[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            values = [int(item) for item in value]
            if len(values) != len(self._values[index]):
                raise ValueError(f"expected {len(self._values[index])} values for {index}, got {len(values)}")
            self._values[index] = values
        else:
            self._values[index] = int(value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Vector | list | tuple):
            return list(self) == list(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __add__(self, other: Iterable[int]) -> tuple[int, ...]:
        return (*self._values, *other)

    def __radd__(self, other: Iterable[int]) -> tuple[int, ...]:
        return (*other, *self._values)

    def __repr__(self) -> str:
        return repr(tuple(self._values))

    __str__ = __repr__


@govern
class Dims(_Vector):
    """A shape; -1 is a dimension that is known only at run time. Compares equal to tuples and lists."""

    def volume(self) -> int:
        """How many elements (TensorRT 5; ``trt.volume(dims)`` since). 1 for no dimensions."""
        warn_retired("Dims.volume", "trt.volume(dims)")
        return math.prod(self._values)


class _Fixed(Dims):
    _length: ClassVar[int] = 0

    def __init__(self, *shape: Any) -> None:
        super().__init__(*shape)
        if not self._values:
            self._values = [0] * self._length
        if len(self._values) != self._length:
            raise ValueError(
                f"Input length {len(self._values)} not equal to expected {type(self).__name__} length, "
                f"which is {self._length}"
            )


class Dims2(_Fixed):
    """Two dimensions."""

    _length = 2


class DimsHW(Dims2):
    """A height and a width."""

    @property
    def h(self) -> int:
        """The height."""
        return self._values[0]

    @h.setter
    def h(self, value: int) -> None:
        self._values[0] = int(value)

    @property
    def w(self) -> int:
        """The width."""
        return self._values[1]

    @w.setter
    def w(self, value: int) -> None:
        self._values[1] = int(value)


class Dims3(_Fixed):
    """Three dimensions."""

    _length = 3


class Dims4(_Fixed):
    """Four dimensions."""

    _length = 4


class Permutation(_Vector):
    """The order of a transposition's dimensions."""


def volume(iterable: Iterable[int]) -> int:
    """How many elements a shape has; 1 for the empty shape, which is a scalar's."""
    return math.prod(int(value) for value in iterable)
