"""Pointwise work before a product becomes its prologue, and means with small layers become squeeze-excitation."""

from __future__ import annotations

import math
from dataclasses import replace

from trine.backends.cuda.fusion.expressions import activation_of
from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import (
    NO_ACTIVATION,
    Buffer,
    DepthwiseConv,
    Epilogue,
    Gemm,
    Pointwise,
    Prologue,
    Reduce,
    SqueezeExcite,
    View,
    contiguous_strides,
)
from trine.backends.cuda.lowering.views import covers_buffer, expressed_like

__all__ = ["fuse_prologues", "fuse_squeeze_excitation"]

_PIXELS_PER_TILE = 256
_MOST_SQUEEZED = 1 << 20  # weights of a squeeze-excitation that a few thread blocks read again for each image


def fuse_squeeze_excitation(program: Program) -> None:
    """Before: mean over the pixels, Gemm with an activation, Gemm with an activation.
    After: SqueezeExcite, from sums that the depthwise convolution writes where one makes the pixels, or else Reduce.
    """
    for index, group in program.positions():
        if not isinstance(group, Gemm):
            continue
        first = _only(program, group.a, index)
        if first is None or not isinstance(first[1], Gemm):
            continue
        mean = _only(program, first[1].a, first[0])
        if mean is None or not isinstance(mean[1], Reduce):
            continue
        _excite(program, (index, group), (first[0], first[1]), (mean[0], mean[1]))


def _excite(program: Program, second: tuple[int, Gemm], first: tuple[int, Gemm], mean: tuple[int, Reduce]) -> None:
    two, one, source = second[1], first[1], mean[1]
    images, pixels, channels = source.x.shape
    if source.kind not in ("mean", "sum") or source.act != NO_ACTIVATION or one.prologue or two.prologue:
        return
    if one.a.shape != (images, channels) or not source.y.contiguous or not one.a.contiguous:
        return
    if two.y.shape != (images, channels) or not two.y.contiguous or two.a.shape != one.y.shape:
        return
    if any(
        each.b.buffer.kind != "weight" or not each.b.contiguous or each.b.shape[0] * each.b.shape[1] > _MOST_SQUEEZED
        for each in (one, two)
    ):
        return
    if any(each.epilogue != Epilogue(each.epilogue.bias, each.epilogue.act) for each in (one, two)):
        return
    factor = 1.0 / pixels if source.kind == "mean" else 1.0
    maker = program.only_writer(source.x)
    sums = None
    if maker is not None and isinstance(maker[1], DepthwiseConv) and maker[1].sums is None:
        made = maker[1]
        packed = all(covers_buffer(each) and each.contiguous for each in (source.x, made.y))
        if packed and made.y.shape[0] == images and made.y.shape[3] == channels:
            tiles = _sum_tiles(made.y.shape)
            sums = _sums(source.name, images, tiles, channels)
            program.put(maker[0], replace(made, sums=sums))
            program.put(mean[0], None)
    if sums is None:
        sums = _sums(source.name, images, 1, channels)
        target = View(sums.buffer, (images, channels), (channels, 1))
        program.put(mean[0], replace(source, kind="sum", y=target))
    program.put(first[0], None)
    program.put(
        second[0],
        SqueezeExcite(
            name=f"{one.name} + {two.name}",
            y=two.y,
            sums=sums,
            factor=factor,
            w1=one.b,
            b1=one.epilogue.bias,
            w2=two.b,
            b2=two.epilogue.bias,
            act1=one.epilogue.act,
            act2=two.epilogue.act,
        ),
    )


def _sum_tiles(shape: tuple[int, ...]) -> int:
    """How many partial sums the kernel writes for each image and channel; any number will do where there is none."""
    try:
        from trine.backends.cuda.kernels.depthwise import sum_tiles
    except ImportError:  # no Triton: nothing is compiled here
        return math.ceil(shape[1] * shape[2] / _PIXELS_PER_TILE)
    return sum_tiles(shape)


def _sums(name: str, images: int, tiles: int, channels: int) -> View:
    shape = (images, tiles, channels)
    return View(Buffer(f"{name} sums", "arena", "fp32", math.prod(shape)), shape, contiguous_strides(shape))


def _only(program: Program, view: View, index: int) -> tuple[int, object] | None:
    """Who alone writes what the group at ``index`` alone reads."""
    return program.only_writer(view) if program.only_reader(view.buffer, index) else None


def fuse_prologues(program: Program) -> None:
    """Before: Pointwise(relu(x * scale + shift)) -> t; Gemm(t). After: Gemm(x, prologue=(scale, shift, relu)).

    The scale may be of each image and channel, as squeeze-excitation makes it. Stays: what others read too; other
    expressions; scales that change from pixel to pixel.
    """
    for index, group in program.positions():
        if not isinstance(group, Gemm) or group.prologue is not None or len(group.a.shape) != 2:
            continue
        found = _only(program, group.a, index)
        if found is None or not isinstance(found[1], Pointwise):
            continue
        fused = _with_prologue(group, found[1])
        if fused is not None:
            program.put(found[0], None)
            program.put(index, fused)


def _with_prologue(group: Gemm, pointwise: Pointwise) -> Gemm | None:
    if pointwise.by_rows or not covers_buffer(pointwise.y) or not covers_buffer(group.a):
        return None
    if len(pointwise.y.shape) < 2:
        return None
    images = pointwise.y.shape[0]
    rows, channels = group.a.shape
    expr, act = pointwise.expr, NO_ACTIVATION
    if (found := activation_of(expr)) is not None:
        expr, act = expr.args[0], found
    shift = scale = None
    if expr.op == "add":
        expr, shift = expr.args
    if expr.op == "mul":
        expr, scale = expr.args
        if (
            scale.op == "input"
            and expr.op == "input"
            and _spread(pointwise.inputs[expr.index])
            and not _spread(pointwise.inputs[scale.index])
        ):
            expr, scale = scale, expr
    if expr.op != "input" or (shift is not None and shift.op != "input") or (scale is not None and scale.op != "input"):
        return None
    if scale is None and shift is None and act == NO_ACTIVATION:
        return None
    x = expressed_like(pointwise.inputs[expr.index], pointwise.y, group.a)
    if x is None or x.strides[1] != 1 or x.dtype != group.a.dtype:
        return None
    views: list[View | None] = []
    per_image = 1
    for each in (scale, shift):
        if each is None:
            views.append(None)
            continue
        given = pointwise.inputs[each.index]
        vector = _rows_vector(given, pointwise.y, group.a)
        if vector is None and each is scale and rows % images == 0:
            # (N, C): axis 0 of the pointwise group counts the images, and every image has as many rows.
            vector = _image_scale(given, pointwise.y, images, channels)
            per_image = rows // images
        if vector is None:
            return None
        views.append(vector)
    return replace(
        group,
        name=f"{pointwise.name} + {group.name}",
        a=x,
        rows_per_image=per_image,
        prologue=Prologue(views[0], views[1], act),
    )


def _spread(view: View) -> bool:
    return any(stride == 0 and length != 1 for length, stride in zip(view.shape, view.strides, strict=True))


def _rows_vector(view: View, y: View, a: View) -> View | None:
    """An operand that depends on the channel only, as (C,)."""
    turned = expressed_like(view, y, a)
    if turned is None or (turned.strides[0] != 0 and turned.shape[0] != 1) or turned.strides[1] != 1:
        return None
    if view.dtype != "fp32":
        return None
    return View(view.buffer, (turned.shape[1],), (1,), turned.offset)


def _image_scale(view: View, y: View, images: int, channels: int) -> View | None:
    """An operand that depends on the image and the channel only, as (N, C)."""
    moving = [axis for axis in range(1, len(view.shape)) if view.shape[axis] != 1 and view.strides[axis] != 0]
    if (
        len(moving) != 1
        or view.shape[moving[0]] != channels
        or view.strides[moving[0]] != 1
        or y.strides[moving[0]] != 1
    ):
        return None
    return View(view.buffer, (images, channels), (view.strides[0] if images != 1 else channels, 1), view.offset)
