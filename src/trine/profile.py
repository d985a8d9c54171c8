"""Which shapes an engine takes: TensorRT's optimization profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trine.errors import ConfigError

__all__ = ["OptimizationProfile", "ShapeRange"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRange:
    """The smallest, the most usual and the largest shape of one input; all of one rank."""

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ConfigError(
                f"min {self.min}, opt {self.opt} and max {self.max} differ in rank; give all three the same rank"
            )
        for axis, (low, mid, high) in enumerate(zip(self.min, self.opt, self.max, strict=True)):
            if not 0 <= low <= mid <= high:
                raise ConfigError(f"axis {axis}: expected 0 <= min <= opt <= max, got min {low}, opt {mid}, max {high}")

    def admits(self, shape: Shape) -> bool:
        """Whether ``shape`` lies within the range on every axis."""
        return len(shape) == len(self.min) and all(
            low <= dim <= high for low, dim, high in zip(self.min, shape, self.max, strict=True)
        )


@dataclass(frozen=True)
class OptimizationProfile:
    """A ``ShapeRange`` for each input, by name. The builder tunes for ``opt``."""

    ranges: Mapping[str, ShapeRange] = field(default_factory=dict)

    def shapes(self, which: str) -> dict[str, Shape]:
        """Every input's shape at ``which``: "min", "opt" or "max"."""
        return {name: getattr(shape_range, which) for name, shape_range in self.ranges.items()}

    def to_json(self) -> dict[str, dict[str, list[int]]]:
        """As plain lists, for the engine's manifest."""
        return {name: {"min": list(r.min), "opt": list(r.opt), "max": list(r.max)} for name, r in self.ranges.items()}
