"""What an input has to be: its dtype, its shape, the profile's range, and one size for each dynamic dimension."""

from __future__ import annotations

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import InputError
from trine.profile import ShapeRange

__all__ = ["InputCheck", "show_shape"]


class InputCheck:
    """One input's contract, taken apart once so that a call costs a few comparisons."""

    __slots__ = ("dtype", "info", "name", "range", "shape", "symbols")

    def __init__(self, info: TensorInfo, shape_range: ShapeRange | None) -> None:
        self.name, self.info, self.range = info.name, info, shape_range
        self.dtype = info.dtype.numpy
        self.shape = info.shape
        self.symbols = tuple((axis, dim) for axis, dim in enumerate(info.shape) if isinstance(dim, str))

    def check(self, array: np.ndarray, bound: dict[str, int]) -> np.ndarray:
        """``array``, C-contiguous, if it fits; binds the dynamic dimensions' symbols in ``bound``."""
        if array.dtype != self.dtype and not (self.info.dtype is DataType.STRING and array.dtype.kind in "OSUT"):
            raise InputError(
                f"input {self.name!r}: expected {self.info.dtype.value}, got {array.dtype}; "
                f"convert it, e.g. {_conversion(self.info.dtype)}"
            )
        self.check_shape(array.shape, bound)
        return array if array.flags.c_contiguous else array.copy(order="C")

    def check_shape(self, shape: tuple[int, ...], bound: dict[str, int]) -> None:
        """Raises InputError if ``shape`` does not fit; binds the dynamic dimensions' symbols in ``bound``."""
        if len(shape) != len(self.shape):
            raise InputError(
                f"input {self.name!r}: expected {len(self.shape)} dimensions {show_shape(self.shape)}, "
                f"got {len(shape)}: {shape}{_batch_hint(self.shape, shape)}"
            )
        for axis, (got, want) in enumerate(zip(shape, self.shape, strict=True)):
            if isinstance(want, int) and got != want:
                raise InputError(
                    f"input {self.name!r}: axis {axis} is {got}, expected {want}; the engine takes "
                    f"{show_shape(self.shape)}"
                )
        if self.range is not None and self.symbols and not self.range.admits(shape):
            self._refuse_range(shape)
        for axis, symbol in self.symbols:
            if bound.setdefault(symbol, shape[axis]) != shape[axis]:
                raise InputError(
                    f"input {self.name!r}: axis {axis} ({symbol}) is {shape[axis]}, but another input "
                    f"has {symbol} = {bound[symbol]}; they must agree"
                )

    def _refuse_range(self, shape: tuple[int, ...]) -> None:
        assert self.range is not None
        for axis, symbol in self.symbols:
            low, high = self.range.min[axis], self.range.max[axis]
            if not low <= shape[axis] <= high:
                raise InputError(
                    f"input {self.name!r}: axis {axis} ({symbol}) is {shape[axis]}, but the engine's profile goes "
                    f"from {low} to {high}; {_into_range(axis, shape[axis], low)}, or build with a wider profile"
                )


def _into_range(axis: int, size: int, low: int) -> str:
    if axis != 0:
        return "pad the input" if size < low else "cut or resize the input"
    if size >= low:
        return "split the input"
    return "send at least one row" if low == 1 else f"fill it up to {low} rows"


def _conversion(dtype: DataType) -> str:
    """How a caller converts to ``dtype``."""
    value = dtype.value
    if value.startswith(("bfloat16", "float8", "int4", "uint4", "float4")):
        return f"x.astype(ml_dtypes.{value}), or x.to(torch.{value})"
    return f"x.astype(np.{'bool_' if value == 'bool' else value}), or x.to(torch.{value})"


def show_shape(shape: tuple[int | str, ...]) -> str:
    """As in a message: "(batch, 3)"."""
    return "(" + ", ".join(str(dim) for dim in shape) + ("," if len(shape) == 1 else "") + ")"


def _batch_hint(want: tuple[int | str, ...], got: tuple[int, ...]) -> str:
    return "; add a batch dimension: x[None]" if len(got) == len(want) - 1 else ""
