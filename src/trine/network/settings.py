"""Properties of layers: each value is checked when it is set, and the layer inferred anew."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network.operations import Choice, member
from trine.network.tensor import as_dtype

if TYPE_CHECKING:
    from trine.network.layer import Layer

__all__ = [
    "Setting",
    "choice",
    "dtype",
    "flag",
    "number",
    "optional",
    "permutation",
    "reduction_axes",
    "sizes",
    "spatial",
    "text",
    "weights",
    "whole",
    "window",
]

T = TypeVar("T")
C = TypeVar("C", bound=Choice)
Check = Callable[["Layer", str, Any], T]  # layer, how errors call the property, what was given


class Setting(Generic[T]):
    """A property that ``check`` makes of what is given; ``default`` until it is set.

    A default may be a function of the layer.
    """

    def __init__(self, check: Check[T], default: Any = None, doc: str = "") -> None:
        self.check = check
        self._default = default
        self.__doc__ = doc
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, layer: Layer, owner: type) -> T: ...
    def __get__(self, layer: Layer | None, owner: type) -> Setting[T] | T:
        if layer is None:
            return self
        if self.name in layer._settings:
            value: T = layer._settings[self.name]
            return value
        default: T = self._default(layer) if callable(self._default) else self._default
        return default

    def __set__(self, layer: Layer, value: Any) -> None:
        layer._change_settings({self.name: self.check(layer, f"{layer.where}: {self.name}", value)})


def integer(where: str, value: Any) -> int:
    """``value`` as an int, of Python or NumPy. Raises ConfigError for anything else."""
    if isinstance(value, bool | np.bool_):
        raise ConfigError(f"{where} is a whole number, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{where} is a whole number, got {value!r}") from None


def whole(least: int | None = None) -> Check[int]:
    """A whole number, not below ``least``."""

    def check(layer: Layer, where: str, value: Any) -> int:
        got = integer(where, value)
        if least is not None and got < least:
            raise ConfigError(f"{where} must be at least {least}, got {got}")
        return got

    return check


def number(layer: Layer, where: str, value: Any) -> float:
    """A number that is not NaN."""
    try:
        got = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where} is a number, got {value!r}") from None
    if math.isnan(got):
        raise ConfigError(f"{where} is a number, got NaN")
    return got


def flag(layer: Layer, where: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool | int | np.bool_):
        raise ConfigError(f"{where} is True or False, got {value!r}")
    return bool(value)


def text(layer: Layer, where: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ConfigError(f"{where} is a string, got {value!r}")
    return value


def dtype(layer: Layer, where: str, value: Any) -> DataType:
    """An element type."""
    return as_dtype(value, where)


def choice(kind: type[C]) -> Check[C]:
    """A member of the enum ``kind``, or its name."""
    return lambda layer, where, value: member(kind, value, where)


def optional(check: Check[T]) -> Check[T | None]:
    """What ``check`` takes, or None."""
    return lambda layer, where, value: None if value is None else check(layer, where, value)


def sizes(least: int | None = None) -> Check[tuple[int, ...]]:
    """A sequence of whole numbers, none below ``least``; one number stands for a sequence of one."""

    def check(layer: Layer, where: str, value: Any) -> tuple[int, ...]:
        items: Iterable[Any] = value if isinstance(value, Iterable) else (value,)
        got = tuple(integer(where, item) for item in items)
        if least is not None and any(item < least for item in got):
            raise ConfigError(f"{where} must each be at least {least}, got {got}")
        return got

    return check


def spatial(least: int | None) -> Check[tuple[int, ...]]:
    """One whole number for each spatial dimension of the layer; a single one stands for all."""

    def check(layer: Layer, where: str, value: Any) -> tuple[int, ...]:
        count: int = layer.spatial_rank
        got = sizes(least)(layer, where, value)
        if not isinstance(value, Iterable):
            got *= count
        if len(got) != count:
            raise ConfigError(f"{where} takes {count} numbers, one for each spatial dimension, got {got}")
        return got

    return check


def window(layer: Layer, where: str, value: Any) -> tuple[int, ...]:
    """The sizes of a window; one number stands for all spatial dimensions of the input."""
    got = sizes(1)(layer, where, value)
    return got if isinstance(value, Iterable) else got * max(layer.input_rank - 2, 0)


def permutation(layer: Layer, where: str, value: Any) -> tuple[int, ...]:
    """An order of axes: each of 0, 1, 2... once."""
    got = sizes()(layer, where, value)
    if sorted(got) != list(range(len(got))):
        raise ConfigError(f"{where} names each axis once, got {got}; wanted an order of {list(range(len(got)))}")
    return got


def reduction_axes(layer: Layer, where: str, value: Any) -> int:
    """Axes as TensorRT's bit mask, bit i for axis i. A sequence of axes is taken as well, negative ones too."""
    if isinstance(value, Sequence | np.ndarray):
        rank = layer.input_rank
        mask = 0
        for item in value:
            axis = integer(where, item)
            if not -rank <= axis < rank:
                raise ConfigError(f"{where}: axis {axis} is out of range for a tensor of {rank} dimensions")
            mask |= 1 << (axis % rank)
        return mask
    mask = integer(where, value)
    if mask <= 0:
        raise ConfigError(f"{where} is a bit mask with bit i for axis i (1 << axis), or a sequence of axes; got {mask}")
    return mask


def weights(layer: Layer, where: str, value: Any) -> ir.TensorProtocol | None:
    """A tensor from a NumPy array, a PyTorch tensor, numbers, or anything with ``.numpy()``; None stays None.

    Copied, except for PyTorch tensors in a graph that is being imported: they are the model's own.
    """
    if value is None:
        return None
    return as_tensor(value, where, share=layer.network.shares_weights)


def as_tensor(value: Any, where: str, *, share: bool = False) -> ir.TensorProtocol:
    """See ``weights``."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous()
        return ir.tensor(value if share else value.clone())
    if not isinstance(value, np.ndarray) and isinstance(value, ir.TensorProtocol):
        return value
    if hasattr(value, "numpy") and not isinstance(value, np.ndarray):
        value = value.numpy()
    try:
        array = np.array(value, dtype=np.float32 if isinstance(value, float) else None, order="C")
    except ValueError as err:
        raise ConfigError(f"{where}: {type(value).__name__} cannot be made an array: {err}") from err
    if array.dtype.kind in "OM" or (array.dtype.kind == "V" and not array.dtype.isbuiltin == 2):
        raise ConfigError(f"{where} is an array of numbers, got {type(value).__name__} of dtype {array.dtype}")
    return ir.tensor(array)
