"""Pointwise groups: a Triton function is written for the expression and the layout of its operands.

Two forms. "flat": one index runs over y's elements in the order of its memory. "tile": where an input is contiguous
along another axis than y (a change of layout), tiles over both axes, so that reading and writing are both in runs;
Triton turns the tile in shared memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trine.backends.cuda.groups import Group, Pointwise, View
from trine.backends.cuda.kernels.collapse import Axis, collapse
from trine.backends.cuda.kernels.generated import function_from_source
from trine.backends.cuda.kernels.operands import launch_of, power_of_two
from trine.backends.cuda.kernels.pointwise_source import Statements, expression_name, unknown_operations
from trine.backends.cuda.tactic import Launch, Rows, Scalar
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["TACTICS", "GeneratedPointwise"]


class GeneratedPointwise:
    """Any expression over any views."""

    name = "triton pointwise"

    def supports(self, group: Group, target: Target) -> Support:
        """See CudaTactic."""
        if not isinstance(group, Pointwise):
            return Support((f"{type(group).__name__} is no pointwise group",))
        reasons = [f"operation {op!r} has no Triton form" for op in sorted(unknown_operations(group.expr))]
        if any(view.shape != group.y.shape for view in group.inputs):
            reasons.append(f"inputs of shapes {[view.shape for view in group.inputs]} for an output {group.y.shape}")
        if group.zero_after and (len(group.y.shape) < 2 or group.y.strides[-1] != 1):
            reasons.append(
                f"padding after the last axis of {group.y.shape}, strides {group.y.strides}; wanted stride 1"
            )
        return Support(tuple(reasons))

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """See CudaTactic. block: elements of a program; form "tile": rows x columns, columns along y's memory."""
        assert isinstance(group, Pointwise)
        elements = group.y.elements
        flat = [
            {"form": "flat", "block": block, "num_warps": warps}
            for block, warps in ((1024, 4), (2048, 8), (512, 4), (512, 2), (256, 2), (2048, 4))
        ]
        if elements < 1024 * target.multiprocessors:
            flat = [
                {"form": "flat", "block": block, "num_warps": warps}
                for block, warps in ((256, 2), (128, 1), (128, 4), (512, 4))
            ]
        axes = _axes(group)
        turned = _turned_axis(group, axes)
        if turned is None:
            return flat
        columns = power_of_two(axes[-1].size)
        rows = power_of_two(axes[turned].size)
        shapes: tuple[tuple[int, int], ...] = ((64, 64), (32, 64), (64, 32), (32, 32), (128, 32), (16, 128))
        if elements < 4096 * target.multiprocessors:
            shapes = ((32, 32), (16, 32), (32, 16), (64, 32), (64, 64))
        found: dict[tuple[int, int], None] = {}
        for each in shapes:
            # What a short axis leaves unused of a tile, the other axis takes.
            width, height = min(each[1], columns), min(each[0], rows)
            height = min(rows, each[0] * each[1] // width)
            width = min(columns, each[0] * each[1] // height)
            found[height, width] = None
        tiles = [{"form": "tile", "rows": h, "columns": w, "num_warps": max(1, min(8, h * w // 256))} for h, w in found]
        # Where both axes are short, tiles are too small to be worth turning.
        return [*flat[:2], tiles[0]] if max(h * w for h, w in found) < 512 else [*tiles, flat[0]]

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """See CudaTactic."""
        assert isinstance(group, Pointwise)
        axes = _axes(group)
        bounded = group.by_rows and group.y.shape[0] > 1
        size = math.prod(axis.size for axis in axes)
        # axes[0] counts the rows, times what has merged into it.
        factor = axes[0].size // group.y.shape[0] if bounded else 1
        limit = Rows() if bounded else Scalar("i32", axes[0].size)
        wide = _extent(group) > (1 << 31) - (1 << 14)
        if configuration["form"] == "flat":
            block = configuration["block"]
            text = _flat_text(group, axes, factor, wide)
            constants = {"BLOCK": block, "MASKED": bounded or size % block != 0}
            programs = -(-size // block)
        else:
            turned = _turned_axis(group, axes)
            assert turned is not None
            text = _tile_text(group, axes, turned, factor, wide)
            constants = {"ROWS": configuration["rows"], "COLUMNS": configuration["columns"]}
            tiles = -(-axes[turned].size // constants["ROWS"]) * -(-axes[-1].size // constants["COLUMNS"])
            programs = tiles * math.prod(axis.size for i, axis in enumerate(axes[:-1]) if i != turned)
        function = function_from_source(text, _function_name(group))
        views = {"y": group.y, "limit": limit, **{f"x{i}": view for i, view in enumerate(group.inputs)}}
        return [launch_of(function, (programs, 1, 1), views, constants, configuration["num_warps"])]


def _axes(group: Pointwise) -> tuple[Axis, ...]:
    """Strides of y, then of the inputs. The last axis has its padding."""
    views = (group.y, *group.inputs)
    strides = [view.strides for view in views]
    axes = collapse(group.y.shape, strides, group.by_rows and group.y.shape[0] > 1, group.zero_after > 0)
    if group.zero_after:
        axes = (*axes[:-1], Axis(axes[-1].size + group.zero_after, axes[-1].strides))
    return axes


def _turned_axis(group: Pointwise, axes: tuple[Axis, ...]) -> int | None:
    """The axis along which the largest input that is not contiguous along y's last one is contiguous."""
    best, most = None, 0
    for i in range(len(group.inputs)):
        strides = [axis.strides[i + 1] for axis in axes]
        if strides[-1] in (0, 1) or len(axes) < 2:
            continue
        units = [k for k, axis in enumerate(axes[:-1]) if strides[k] == 1 and axis.size > 1]
        extent = math.prod(axis.size for axis, stride in zip(axes, strides, strict=True) if stride)
        if units and extent > most:
            best, most = units[0], extent
    return best


def _extent(group: Pointwise) -> int:
    """The largest index into any operand, about."""
    views: tuple[View, ...] = (group.y, *group.inputs)
    extents = [sum((n - 1) * abs(s) for n, s in zip(view.shape, view.strides, strict=True)) for view in views]
    return max(group.y.elements * (1 + group.zero_after), *extents)


def _function_name(group: Pointwise) -> str:
    return f"pointwise_{expression_name(group.expr)}"


def _flat_text(group: Pointwise, axes: tuple[Axis, ...], factor: int, wide: bool) -> str:
    inner = math.prod(axis.size for axis in axes[1:])
    pid = "tl.program_id(0).to(tl.int64)" if wide else "tl.program_id(0)"
    lines = [f"index = {pid} * BLOCK + tl.arange(0, BLOCK)"]
    bound = factor * inner
    if wide:
        lines.append("limit = limit.to(tl.int64)")
    lines += ["if MASKED:", f"    mask = index < limit * {bound}", "else:", "    mask = None"]
    rest = "index"
    for i in range(len(axes) - 1, 0, -1):
        lines += [f"i{i} = {rest} % {axes[i].size}", f"rest{i} = {rest} // {axes[i].size}"]
        rest = f"rest{i}"
    lines.append(f"i0 = {rest}")
    names = [f"i{i}" for i in range(len(axes))]
    read = "mask"
    if group.zero_after:
        inside = f"{names[-1]} < {axes[-1].size - group.zero_after}"
        lines += ["if MASKED:", f"    inside = mask & ({inside})", "else:", f"    inside = {inside}"]
        read = "inside"
    lines += _body(group, axes, names, read, "mask", "(1,)")
    return _text(group, lines, ["BLOCK", "MASKED"])


def _tile_text(group: Pointwise, axes: tuple[Axis, ...], turned: int, factor: int, wide: bool) -> str:
    last = len(axes) - 1
    lines = [
        "pid = tl.program_id(0)" + (".to(tl.int64)" if wide else ""),
        f"tiles = ({axes[last].size} + COLUMNS - 1) // COLUMNS",
        f"i{last} = (pid % tiles * COLUMNS + tl.arange(0, COLUMNS))[None, :]",
        "pid = pid // tiles",
        f"down = ({axes[turned].size} + ROWS - 1) // ROWS",
        f"i{turned} = (pid % down * ROWS + tl.arange(0, ROWS))[:, None]",
        "pid = pid // down",
    ]
    others = [i for i in range(last) if i != turned]
    for i in reversed(others):
        if i == others[0]:
            lines.append(f"i{i} = pid")
        else:
            lines += [f"i{i} = pid % {axes[i].size}", f"pid = pid // {axes[i].size}"]
    bounds = [f"(i{last} < {axes[last].size})", f"(i{turned} < {axes[turned].size})", f"(i0 < limit * {factor})"]
    lines.append("mask = " + " & ".join(bounds))
    read = "mask"
    if group.zero_after:
        lines.append(f"inside = mask & (i{last} < {axes[last].size - group.zero_after})")
        read = "inside"
    lines += _body(group, axes, [f"i{i}" for i in range(len(axes))], read, "mask", "(1, 1)")
    return _text(group, lines, ["ROWS", "COLUMNS"])


def _body(group: Pointwise, axes: tuple[Axis, ...], names: list[str], read: str, written: str, unit: str) -> list[str]:
    """Loads under the mask ``read``, the expression, the store under the mask ``written``."""
    lines = []
    for i, view in enumerate(group.inputs):
        cast = ".to(tl.float32)" if view.dtype in ("fp16", "bf16") else ""
        where = f"x{i} + {_offset(axes, names, i + 1)}, mask={read}"
        if all(axis.strides[i + 1] == 0 or axis.size == 1 for axis in axes):
            where = f"x{i}"  # one number for all
        lines.append(f"in{i} = tl.load({where}){cast}")
    statements = Statements([view.dtype for view in group.inputs], unit)
    value = statements.store_value(group.expr, group.y.dtype)
    lines += statements.lines
    if group.zero_after:
        zero = "False" if group.y.dtype == "bool" else "0.0" if group.y.dtype in ("fp32", "fp16", "bf16") else "0"
        lines.append(f"padded = tl.where(inside, {value}, {zero})")
        value = "padded"
    lines.append(f"tl.store(y + {_offset(axes, names, 0)}, {value}, mask={written})")
    return lines


def _offset(axes: tuple[Axis, ...], names: list[str], operand: int) -> str:
    """The offset of an operand's elements; all axes take part, so that its shape is the tile's."""
    strides = [axis.strides[operand] for axis in axes]
    terms = [name if stride == 1 else f"{name} * {stride}" for name, stride in zip(names, strides, strict=True)]
    return f"({' + '.join(terms)})"


def _text(group: Pointwise, lines: list[str], constants: list[str]) -> str:
    inputs = [f"x{i}" for i in range(len(group.inputs))]
    parameters = [*inputs, "y", "limit", *(f"{name}: tl.constexpr" for name in constants)]
    head = ["@triton.jit", f"def {_function_name(group)}({', '.join(parameters)}):"]
    return "\n".join([*head, *(f"    {line}" for line in lines)]) + "\n"


TACTICS = (GeneratedPointwise(),)
