"""Pooling over the spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from trine.network.convolution import WindowLayer, check_spatial
from trine.network.operations import LayerType, PaddingMode, PoolingType
from trine.network.settings import Setting, choice, flag, number, window
from trine.network.writer import Writer

__all__ = ["PoolingLayer"]


class PoolingLayer(WindowLayer):
    """The largest element of a window, their average, or a blend of both.

    Rounding up (EXPLICIT_ROUND_UP) leaves out a last window that would begin behind the input, as PyTorch does. An
    average counts the padding unless ``average_count_excludes_padding``, which is the default.
    """

    kind = LayerType.POOLING

    window_size_nd = Setting(window)
    pooling_type = Setting(choice(PoolingType), PoolingType.MAX)
    average_count_excludes_padding = Setting(flag, True)
    blend_factor = Setting(number, 0.0)

    @property
    def window(self) -> tuple[int, ...]:
        """The window's sizes."""
        return self.window_size_nd

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """MaxPool, AveragePool, or a weighted sum of the two."""
        x = inputs[0]
        check_spatial(w, x, len(self.window_size_nd))
        pads = self.pads(w, x, self.window)
        self.check_fits(w, x, self.window, pads)
        for label in ("pre_padding", "post_padding"):
            if any(pad >= size for pad, size in zip(getattr(self, label), self.window, strict=True)):
                raise w.unfinished(f"{label} {getattr(self, label)} must be smaller than the window {self.window}")
        if self.pooling_type is PoolingType.MAX:
            return [self._max(w, x, pads)]
        if self.pooling_type is PoolingType.AVERAGE:
            return [self._average(w, x, pads)]
        largest = w.op("Mul", self._max(w, x, pads), w.scalar(1 - self.blend_factor, x))
        average = w.op("Mul", self._average(w, x, pads), w.scalar(self.blend_factor, x))
        return [w.op("Add", largest, average)]

    @property
    def _common(self) -> dict[str, Any]:
        up = self.padding_mode is PaddingMode.EXPLICIT_ROUND_UP
        return {
            "kernel_shape": list(self.window),
            "strides": list(self.stride_nd),
            "ceil_mode": 1 if up else None,
        }

    def _max(self, w: Writer, x: ir.Value, pads: dict[str, Any]) -> ir.Value:
        return w.op("MaxPool", x, **self._common, **pads)

    def _average(self, w: Writer, x: ir.Value, pads: dict[str, Any]) -> ir.Value:
        counts_padding = not self.average_count_excludes_padding and any(pads.get("pads", [1]))
        if counts_padding and "ceil_mode" in self._common and self._common["ceil_mode"]:
            # Padding counts, what rounding up adds behind it does not. Backends disagree on that, so it is spelt out.
            count = len(self.window)
            begin, end = pads["pads"][:count], pads["pads"][count:]
            x = w.op("Pad", x, w.ints([0, 0, *begin, 0, 0, *end]), w.scalar(0, x))
            return w.op("AveragePool", x, **self._common)
        return w.op("AveragePool", x, count_include_pad=1 if counts_padding else None, **self._common, **pads)
