"""Convolution for Hopper: im2col loads of the tensor memory accelerator, see hopper_product."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trine.backends.cuda.groups import Conv, Group, View
from trine.backends.cuda.kernels.hopper_launch import hopper_launch, refusals, unfit
from trine.backends.cuda.kernels.hopper_product import COMPILES
from trine.backends.cuda.kernels.hopper_tiles import Product, hopper_tiles
from trine.backends.cuda.tactic import Launch, TensorMap
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "HopperConv"]


class HopperConv:
    """3x3, 1x1 and other filters, strided or not, in 16 bits, of packed rows of pixels."""

    name = "gluon im2col"

    def __init__(self, compiles: bool = COMPILES) -> None:
        """compiles: whether the kernels can be compiled here, or machine code from elsewhere is at hand."""
        self.compiles = compiles

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Conv):
            return Support((f"{type(group).__name__} is no convolution",))
        reasons = [*refusals(self.compiles, target)]
        if group.groups != 1:
            reasons.append(f"{group.groups} groups; wanted one")
        if group.prologue is not None:
            reasons.append("a prologue; pixels go from memory to the tensor cores untouched")
        views = {"x": group.x, "w": group.w, "y": group.y, "residual": group.epilogue.residual}
        reasons += unfit(views, group.epilogue.bias)
        for name, view in {"y": group.y, "residual": group.epilogue.residual}.items():
            if view is not None and not _packed(view):
                reasons.append(f"{name}: pixels are not evenly spaced, strides {view.strides}")
        if group.x.shape[3] % 32:
            reasons.append(f"{group.x.shape[3]} channels; wanted a multiple of 32")
        if not group.w.contiguous:
            reasons.append(f"w: strides {group.w.strides}; wanted contiguous (K, R, S, C)")
        reach = max((n - 1) * d for n, d in zip(group.w.shape[1:3], group.dilation, strict=True))
        if max(group.stride) > 8 or reach > 127 or max(group.pads) > 127:
            reasons.append(f"stride {group.stride}, reach {reach}, pads {group.pads}; wanted at most 8, 127 and 127")
        if math.prod(group.y.shape[:3]) >= 1 << 30:
            reasons.append(f"y: {group.y.shape[:3]} are 2**30 pixels or more")
        if not reasons and not self.configurations(group, target):
            reasons.append("no tile fits into shared memory")
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block_m: rows of a warp group; together, resident: see the kernel; stages: of the ring."""
        assert isinstance(group, Conv)
        return hopper_tiles(_product(group), target)

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Conv)
        _, r, s, c = group.w.shape
        residual = group.epilogue.residual
        filters = View(group.w.buffer, (group.w.shape[0], r * s * c), (r * s * c, 1), group.w.offset)
        launch = hopper_launch(
            _product(group),
            configuration,
            target,
            x=_window(group, configuration["block_m"], configuration["block_k"]),
            w=filters,
            y=_matrix(group.y),
            residual=None if residual is None else _matrix(residual),
            epilogue=group.epilogue,
            window={
                **dict(zip(("p", "q"), group.y.shape[1:3], strict=True)),
                **{"channels": c, "filter_w": s},
                **dict(zip(("stride_h", "stride_w"), group.stride, strict=True)),
                **dict(zip(("pad_h", "pad_w"), group.pads[:2], strict=True)),
                **dict(zip(("dilation_h", "dilation_w"), group.dilation, strict=True)),
            },
        )
        return [launch]


def _product(group: Conv) -> Product:
    return Product(
        rows=math.prod(group.y.shape[:3]),
        columns=group.y.shape[3],
        products=math.prod(group.w.shape[1:]),
        channels=group.w.shape[3],
        residual=group.epilogue.residual is not None,
    )


def _matrix(view: View) -> View:
    """Pixels as rows."""
    return View(view.buffer, (math.prod(view.shape[:3]), view.shape[3]), (view.strides[2], 1), view.offset)


def _packed(view: View) -> bool:
    """Whether pixel follows pixel at one distance, through rows and images."""
    _, high, wide, _ = view.shape
    return view.strides[1] == wide * view.strides[2] and view.strides[0] == high * view.strides[1]


def _window(group: Conv, pixels: int, channels: int) -> TensorMap:
    """Where the filter's first element goes: from -pads, as many steps as there are outputs. Beyond x all is zero."""
    lower = (-group.pads[0], -group.pads[1])
    upper = tuple(
        (group.y.shape[axis] - 1) * group.stride[axis - 1] + 1 - group.x.shape[axis] - group.pads[axis - 1]
        for axis in (1, 2)
    )
    return TensorMap(group.x, (pixels, channels), (lower, upper, channels, pixels), (1, *group.stride, 1))


TACTICS = (HopperConv(),)
