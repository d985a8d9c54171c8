"""Layers that sample between the elements of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.network.layer import Layer
from trine.network.operations import (
    InterpolationMode,
    LayerType,
    ResizeCoordinateTransformation,
    ResizeRoundMode,
    ResizeSelector,
    SampleMode,
)
from trine.network.settings import Setting, choice, flag, number, optional, sizes
from trine.network.shape_layers import shape_tensor
from trine.network.writer import Writer

__all__ = ["GridSampleLayer", "ResizeLayer"]

_MODES = {InterpolationMode.NEAREST: "nearest", InterpolationMode.LINEAR: "linear", InterpolationMode.CUBIC: "cubic"}
_COORDINATES = {
    ResizeCoordinateTransformation.ALIGN_CORNERS: "align_corners",
    ResizeCoordinateTransformation.ASYMMETRIC: "asymmetric",
    ResizeCoordinateTransformation.HALF_PIXEL: "half_pixel",
}
_ROUNDING = {
    ResizeRoundMode.HALF_UP: "round_prefer_ceil",
    ResizeRoundMode.HALF_DOWN: "round_prefer_floor",
    ResizeRoundMode.FLOOR: "floor",
    ResizeRoundMode.CEIL: "ceil",
}
_OUTSIDE = {SampleMode.FILL: "zeros", SampleMode.CLAMP: "border", SampleMode.REFLECT: "reflection"}


def _factors(layer: Layer, where: str, value: Any) -> tuple[float, ...]:
    factors = tuple(number(layer, where, item) for item in value)
    if any(factor <= 0 for factor in factors):
        raise layer.error(f"scales must be positive, got {factors}")
    return factors


class ResizeLayer(Layer):
    """The input at another size: ``shape``, or ``scales`` times its own, or what input 1 says while running.

    Without any of them it is a copy.
    """

    kind = LayerType.RESIZE
    max_inputs: ClassVar[int] = 2

    shape = Setting(optional(sizes(1)))
    scales = Setting(optional(_factors))
    resize_mode = Setting(choice(InterpolationMode), InterpolationMode.NEAREST)
    coordinate_transformation = Setting(
        choice(ResizeCoordinateTransformation), ResizeCoordinateTransformation.ASYMMETRIC
    )
    selector_for_single_pixel = Setting(choice(ResizeSelector), ResizeSelector.FORMULA)
    nearest_rounding = Setting(choice(ResizeRoundMode), ResizeRoundMode.FLOOR)
    cubic_coeff = Setting(number, -0.75)
    exclude_outside = Setting(flag, False)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Resize."""
        x = inputs[0]
        rank = w.rank(x)
        factors = wanted = None
        if len(inputs) > 1 and inputs[1] is not None:
            wanted = shape_tensor(w, inputs[1], "input 1, the output's shape,")
        elif self.scales is not None:
            self._check_length(w, "scales", self.scales, rank)
            factors = w.constant(np.array(self.scales, np.float32), "scales")
        elif self.shape is not None:
            self._check_length(w, "shape", self.shape, rank)
            wanted = w.ints(self.shape)
        else:
            return [w.op("Identity", x)]
        coordinates = _COORDINATES[self.coordinate_transformation]
        if coordinates == "half_pixel" and self.selector_for_single_pixel is ResizeSelector.UPPER:
            coordinates = "pytorch_half_pixel"  # the same, but a single pixel is the first
        cubic = self.resize_mode is InterpolationMode.CUBIC
        return [
            w.op(
                "Resize",
                x,
                None,
                factors,
                wanted,
                mode=_MODES[self.resize_mode],
                coordinate_transformation_mode=coordinates,
                nearest_mode=_ROUNDING[self.nearest_rounding]
                if self.resize_mode is InterpolationMode.NEAREST
                else None,
                cubic_coeff_a=self.cubic_coeff if cubic else None,
                exclude_outside=int(self.exclude_outside) if cubic else None,
            )
        ]

    def _check_length(self, w: Writer, label: str, given: Sequence[float], rank: int) -> None:
        if len(given) != rank:
            raise w.error(f"{label} takes {rank} numbers, one for each dimension of the input, got {tuple(given)}")


class GridSampleLayer(Layer):
    """Input 0 (batch, channels, height, width) at the places in input 1 (batch, height, width, x and y in -1 to 1)."""

    kind = LayerType.GRID_SAMPLE
    max_inputs: ClassVar[int] = 2

    interpolation_mode = Setting(choice(InterpolationMode), InterpolationMode.LINEAR)
    align_corners = Setting(flag, False)
    sample_mode = Setting(choice(SampleMode), SampleMode.FILL)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """GridSample."""
        if self.sample_mode not in _OUTSIDE:
            allowed = ", ".join(mode.name for mode in _OUTSIDE)
            raise w.error(f"sample_mode is one of {allowed}, got {self.sample_mode.name}")
        x, grid = inputs
        if w.rank(x) != 4 or w.rank(grid) != 4 or w.dims(grid)[-1] not in (2, None):
            raise w.error(
                "expected an input (batch, channels, height, width) and a grid (batch, height, width, 2), got "
                f"{w.dims(x)} and {w.dims(grid)}"
            )
        return [
            w.op(
                "GridSample",
                x,
                grid,
                mode=_MODES[self.interpolation_mode],
                padding_mode=_OUTSIDE[self.sample_mode],
                align_corners=int(self.align_corners),
            )
        ]
