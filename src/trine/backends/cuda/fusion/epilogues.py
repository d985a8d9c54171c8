"""Pointwise work behind a product becomes its epilogue: bias, activation, residual, activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trine.backends.cuda.fusion.expressions import activation_of, inputs_of, with_activation
from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import (
    NO_ACTIVATION,
    Activation,
    Buffer,
    Conv,
    DepthwiseConv,
    Epilogue,
    Expr,
    Gemm,
    Group,
    Pointwise,
    Reduce,
    View,
)
from trine.backends.cuda.lowering.views import covers_buffer, expressed_like

__all__ = ["fuse_epilogues"]

_Fields = dict[str, Any]  # new values for an anchor's fields
_Anchor = Conv | DepthwiseConv | Gemm
_FLOATS = frozenset({"fp32", "fp16", "bf16"})


def fuse_epilogues(program: Program) -> None:
    """Before: Conv -> y; Pointwise(relu(y + other)) -> z. After: Conv(residual=other, act_after=relu) -> z.

    The product takes the pointwise group's place in the order, as what it now also reads may be made in between. Stays:
    what others read too; an output of the caller; expressions that are no epilogue; operands that are spread in ways
    that the product's own axes cannot say.
    """
    for index, group in program.positions():
        if isinstance(group, Pointwise):
            _absorb(program, index, group)


def _absorb(program: Program, index: int, group: Pointwise) -> None:
    candidates = []
    for position, view in enumerate(group.inputs):
        found = program.only_writer(view)
        if found is not None and program.only_reader(view.buffer, index):
            candidates.append((found[0], position))
    for writer, position in sorted(candidates, reverse=True):  # the latest: what it adds is made by then
        anchor = program.at(writer)
        fused: Group | None = None
        if isinstance(anchor, _Anchor):
            fused = _fused(anchor, group, position)
        elif isinstance(anchor, Reduce):
            fused = _reduced(anchor, group, position)
        if fused is not None:
            program.put(writer, None)
            program.put(index, fused)
            return


def _common(anchor: _Anchor | Reduce, group: Pointwise, position: int) -> bool:
    """Whether each element of the anchor's output is read once, for the element that it is."""
    view = group.inputs[position]
    return (
        not group.by_rows
        and group.y.buffer.kind == "arena"
        and group.y.dtype == anchor.y.dtype
        and all(each.buffer is not view.buffer or each == view for each in group.inputs)
        and covers_buffer(anchor.y)
        and covers_buffer(view)
    )


def _reduced(anchor: Reduce, group: Pointwise, position: int) -> Reduce | None:
    """A reduction takes an activation only."""
    act = activation_of(group.expr)
    if act is None or group.expr.args[0].op != "input" or not _common(anchor, group, position):
        return None
    y = expressed_like(group.y, group.inputs[position], anchor.y)
    if y is None or anchor.act != NO_ACTIVATION or not covers_buffer(group.y):
        return None
    return replace(anchor, name=f"{anchor.name} + {group.name}", y=y, act=act)


def _fused(anchor: _Anchor, group: Pointwise, position: int) -> _Anchor | None:
    if not _common(anchor, group, position):
        return None
    given = group.inputs[position]
    own = {index for index, view in enumerate(group.inputs) if view == given}

    def in_axes(view: View) -> View | None:
        return expressed_like(view, given, anchor.y)

    found = _Parts(anchor, own, group.inputs, in_axes).match(group.expr)
    y = in_axes(group.y)
    if found is None or y is None or (y.strides[-1] not in (1,) and y.shape[-1] != 1):
        return None
    changed: _Anchor = replace(anchor, name=f"{anchor.name} + {group.name}", y=y, **found)
    return changed


@dataclass(frozen=True)
class _Parts:
    """Matches an expression, from the inside out, against what the epilogue has still room for."""

    anchor: _Anchor
    own: set[int]
    inputs: tuple[View, ...]
    in_axes: Callable[[View], View | None]

    def match(self, expr: Expr) -> _Fields | None:
        """New values for the anchor's fields; None where the expression does not fit."""
        if expr.op == "input":
            return {"epilogue": self.anchor.epilogue} if expr.index in self.own else None
        act = activation_of(expr)
        if act is not None:
            inner = self.match(expr.args[0])
            return None if inner is None else _activated(inner, act)
        if expr.op == "cast" and expr.dtype in _FLOATS:
            return self.match(expr.args[0])
        if expr.op not in ("add", "mul", "sub", "div") or len(expr.args) != 2:
            return None
        left, right = (bool(inputs_of(each) & self.own) for each in expr.args)
        if left == right or (right and expr.op == "div"):
            return None
        own, other = expr.args if left else expr.args[::-1]
        matched = self.match(own)
        if matched is None:
            return None
        if expr.op in ("mul", "div"):
            return self._scaled(matched, other, expr.op == "div")
        if expr.op == "sub" and (right or other.op != "constant"):
            return None
        return self._added(matched, other, -1.0 if expr.op == "sub" else 1.0)

    def _added(self, matched: _Fields, other: Expr, sign: float) -> _Fields | None:
        epilogue = matched["epilogue"]
        assert isinstance(epilogue, Epilogue)
        if other.op == "constant":
            channels = self.anchor.y.shape[-1]
            vector = np.full(channels, sign * float(other.value), np.float32)
        elif other.op == "input":
            view = self.inputs[other.index]
            channel = self._channel_vector(view)
            if channel is None:
                return self._residual(matched, epilogue, view)
            vector = channel
        else:
            return None
        if epilogue.act != NO_ACTIVATION or epilogue.residual is not None or epilogue.act_after != NO_ACTIVATION:
            if other.op == "input":
                return self._residual(matched, epilogue, self.inputs[other.index])
            return None
        if epilogue.bias is not None:
            assert epilogue.bias.buffer.data is not None
            vector = vector + epilogue.bias.buffer.data
        return {**matched, "epilogue": replace(epilogue, bias=_vector(vector, f"{self.anchor.name} bias"))}

    def _residual(self, matched: _Fields, epilogue: Epilogue, view: View) -> _Fields | None:
        if epilogue.residual is not None or epilogue.act_after != NO_ACTIVATION:
            return None
        turned = self.in_axes(view)
        if turned is None or turned.dtype not in _FLOATS:
            return None
        if turned.strides[-1] != 1 and turned.shape[-1] != 1:
            return None  # kernels read whole rows of it
        return {**matched, "epilogue": replace(epilogue, residual=turned)}

    def _scaled(self, matched: _Fields, other: Expr, divide: bool) -> _Fields | None:
        """A constant factor of each channel goes into the weights and the bias."""
        epilogue = matched["epilogue"]
        assert isinstance(epilogue, Epilogue)
        weights = self.anchor.b if isinstance(self.anchor, Gemm) else self.anchor.w
        if epilogue != Epilogue(epilogue.bias) or weights.buffer.kind != "weight" or len(weights.shape) == 1:
            return None
        if other.op == "constant":
            factor = np.full(self.anchor.y.shape[-1], float(other.value), np.float32)
        elif other.op == "input" and (channel := self._channel_vector(self.inputs[other.index])) is not None:
            factor = channel
        else:
            return None
        if divide:
            factor = np.float32(1) / factor
        if not np.isfinite(factor).all() or (isinstance(self.anchor, Gemm) and len(weights.shape) != 2):
            return None
        assert weights.buffer.data is not None
        data = np.lib.stride_tricks.as_strided(
            weights.buffer.data[weights.offset :], weights.shape, [stride * 4 for stride in weights.strides]
        )
        axis = len(weights.shape) - 1 if isinstance(self.anchor, DepthwiseConv) else 0
        shape = [1] * len(weights.shape)
        shape[axis] = -1
        scaled = np.ascontiguousarray(data * factor.reshape(shape))
        buffer = Buffer(f"{weights.buffer.name} scaled", "weight", weights.dtype, scaled.size, scaled.reshape(-1))
        changed: _Fields = {**matched}
        inner = 1
        strides = []
        for length in reversed(weights.shape):
            strides.append(inner)
            inner *= length
        view = View(buffer, weights.shape, tuple(reversed(strides)))
        changed["b" if isinstance(self.anchor, Gemm) else "w"] = view
        if epilogue.bias is not None:
            assert epilogue.bias.buffer.data is not None
            bias = _vector(epilogue.bias.buffer.data * factor, f"{epilogue.bias.buffer.name} scaled")
            changed["epilogue"] = replace(epilogue, bias=bias)
        # Two factors in a row are rare; the second would find the unscaled weights in the anchor.
        return None if {"b", "w"} & set(matched) else changed

    def _channel_vector(self, view: View) -> np.ndarray | None:
        """The elements of a constant that depends on the last axis only."""
        if view.buffer.kind != "weight":
            return None
        turned = self.in_axes(view)
        if turned is None or view.buffer.data is None or view.dtype not in _FLOATS:
            return None
        if any(stride and length != 1 for length, stride in zip(turned.shape[:-1], turned.strides[:-1], strict=True)):
            return None
        step = turned.strides[-1]
        index = turned.offset + np.arange(turned.shape[-1]) * step
        chosen: np.ndarray = np.asarray(view.buffer.data, np.float32)[index]
        return chosen


def _activated(matched: _Fields, act: Activation) -> _Fields | None:
    epilogue = matched["epilogue"]
    assert isinstance(epilogue, Epilogue)
    if epilogue.residual is None and epilogue.act_after == NO_ACTIVATION:
        together = with_activation(epilogue.act, act)
        if together is not None:
            return {**matched, "epilogue": replace(epilogue, act=together)}
    together = with_activation(epilogue.act_after, act)
    return None if together is None else {**matched, "epilogue": replace(epilogue, act_after=together)}


def _vector(array: np.ndarray, name: str) -> View:
    return View(Buffer(name, "weight", "fp32", array.size, array.astype(np.float32)), (array.size,), (1,))
