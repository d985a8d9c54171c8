"""IOptimizationProfile: the ranges of an engine's dynamic dimensions."""

from __future__ import annotations

from typing import Any

from trine.compat.tensorrt.dims import Dims
from trine.compat.tensorrt.eras import Checked
from trine.errors import ConfigError
from trine.profile import ShapeRange

__all__ = ["IOptimizationProfile"]


class IOptimizationProfile(Checked):
    """The smallest, the usual and the largest shape of each input. Made by ``Builder.create_optimization_profile``."""

    def __init__(self) -> None:
        self._ranges: dict[str, ShapeRange] = {}
        self._values: dict[str, tuple[list[int], list[int], list[int]]] = {}
        self._extra_memory_target = 1.0

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002  # TensorRT's names
        """Give an input's range. Raises ValueError where it is none, as TensorRT does."""
        triple = [tuple(int(dim) for dim in shape) for shape in (min, opt, max)]
        try:
            self._ranges[str(input)] = ShapeRange(*triple)
        except ConfigError as err:
            raise ValueError(f"Shape provided for input {input!r} is inconsistent with other values: {err}") from err

    def get_shape(self, input: str) -> list[Dims]:  # noqa: A002
        """What ``set_shape`` was given; an empty list where it was not called."""
        found = self._ranges.get(str(input))
        return [] if found is None else [Dims(found.min), Dims(found.opt), Dims(found.max)]

    def set_shape_input(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        """Give the range of a shape tensor's values. Raises ValueError where it is none."""
        low, mid, high = ([int(value) for value in values] for values in (min, opt, max))
        if not len(low) == len(mid) == len(high) or any(
            not a <= b <= c for a, b, c in zip(low, mid, high, strict=True)
        ):
            raise ValueError(f"Values provided for shape input {input!r}: expected min <= opt <= max of one length")
        self._values[str(input)] = (low, mid, high)

    def get_shape_input(self, input: str) -> list[list[int]]:  # noqa: A002
        """What ``set_shape_input`` was given; an empty list where it was not called."""
        return [list(values) for values in self._values.get(str(input), ())]

    @property
    def extra_memory_target(self) -> float:
        """How much more memory this profile may take than the first. The CPU's backends allocate as they need."""
        return self._extra_memory_target

    @extra_memory_target.setter
    def extra_memory_target(self, target: float) -> None:
        if not 0 <= target <= 1:
            raise ValueError(f"extra_memory_target: expected a number from 0 to 1, got {target}")
        self._extra_memory_target = float(target)

    def __bool__(self) -> bool:
        return True

    __nonzero__ = __bool__
