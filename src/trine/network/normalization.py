"""Layers that bring elements to a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from trine.network.layer import Layer
from trine.network.operations import LayerType
from trine.network.reductions import axes_of
from trine.network.settings import Setting, flag, number, reduction_axes, whole
from trine.network.writer import Writer

__all__ = ["LRNLayer", "NormalizationLayer"]


class NormalizationLayer(Layer):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, mean and variance along ``axes``, a bit mask.

    Inputs 1 and 2, scale and bias, broadcast to x. With ``num_groups`` above 1, x has its channels in dimension 1, cut
    into groups, and each group is normalised with all that follows; scale and bias then have one number for each
    channel (``is_v2``) or each group (not ``is_v2``).
    """

    kind = LayerType.NORMALIZATION
    max_inputs: ClassVar[int] = 3

    axes = Setting(reduction_axes)
    epsilon = Setting(number, 1e-5)
    num_groups = Setting(whole(1), 1)
    is_v2 = Setting(flag, True)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Spelt out, as exporters do; passes recognise the forms that backends have kernels for."""
        x, scale, bias = inputs
        for label, value in (("scale", scale), ("bias", bias)):
            if value is None:
                raise w.error(f"{label} is missing")
            if w.rank(value) > w.rank(x):
                raise w.error(f"{label} {w.dims(value)} does not broadcast to the input {w.dims(x)}")
            if self.num_groups == 1:
                self._check_broadcast(w, label, w.dims(value), w.dims(x))
        if self.num_groups == 1:
            made = self._normalised(w, x, axes_of(w, self.axes, w.rank(x)))
            return [w.set_dims(w.op("Add", w.op("Mul", made, scale), bias), w.dims(x))]
        return [self._grouped(w, x, scale, bias)]

    def _check_broadcast(self, w: Writer, label: str, own: Sequence[Any], dims: Sequence[Any]) -> None:
        for size, dim in zip(reversed(own), reversed(dims), strict=False):
            if isinstance(size, int) and isinstance(dim, int) and size not in (1, dim):
                raise w.unfinished(  # with num_groups, it may be one number for each group
                    f"{label} {tuple(own)} does not broadcast to the input {tuple(dims)}"
                )

    def _normalised(self, w: Writer, x: ir.Value, axes: list[int]) -> ir.Value:
        mean = w.op("ReduceMean", x, w.ints(axes), keepdims=1)
        apart = w.op("Sub", x, mean)
        variance = w.op("ReduceMean", w.op("Mul", apart, apart), w.ints(axes), keepdims=1)
        deviation = w.op("Sqrt", w.op("Add", variance, w.scalar(self.epsilon, x)))
        return w.op("Div", apart, deviation)

    def _grouped(self, w: Writer, x: ir.Value, scale: ir.Value, bias: ir.Value) -> ir.Value:
        dims = w.dims(x)
        if len(dims) < 3:
            raise w.unfinished(f"with num_groups={self.num_groups} the input has at least 3 dimensions, got {dims}")
        channels = dims[1]
        if not isinstance(channels, int) or channels % self.num_groups:
            raise w.unfinished(f"num_groups={self.num_groups} does not divide the number of channels, {channels}")
        wanted = list(range(2, len(dims)))
        if axes_of(w, self.axes, len(dims)) != wanted:
            raise w.unfinished(
                f"with num_groups={self.num_groups} the axes are all that follow the channels, {wanted}; got "
                f"{axes_of(w, self.axes, len(dims))}"
            )
        made = self._normalised(w, w.op("Reshape", x, w.ints([0, self.num_groups, -1])), [2])
        if not self.is_v2:
            one_each = w.ints([1, self.num_groups, 1])
            scaled = w.op("Mul", made, w.op("Reshape", scale, one_each))
            made = w.op("Add", scaled, w.op("Reshape", bias, one_each))
        made = w.set_dims(w.op("Reshape", made, w.op("Shape", x)), dims)
        return made if not self.is_v2 else w.op("Add", w.op("Mul", made, scale), bias)


class LRNLayer(Layer):
    """x / (k + alpha / window_size * sum of squares) ** beta, the sum over ``window_size`` neighbouring channels."""

    kind = LayerType.LRN

    window_size = Setting(whole(1))
    alpha = Setting(number)
    beta = Setting(number)
    k = Setting(number)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """LRN."""
        if self.window_size % 2 == 0:
            raise w.error(f"window_size must be odd, got {self.window_size}")
        x = inputs[0]
        if w.rank(x) < 2:
            raise w.error(f"expected batch and channels as the first dimensions, got {w.dims(x)}")
        return [w.op("LRN", x, size=self.window_size, alpha=self.alpha, beta=self.beta, bias=self.k)]
