"""Pointwise groups in a row become one."""

from __future__ import annotations

from dataclasses import replace

from trine.backends.cuda.fusion.expressions import inputs_of, operation_count, renumbered, simplified, substituted
from trine.backends.cuda.fusion.program import Program
from trine.backends.cuda.groups import Expr, Pointwise, View
from trine.backends.cuda.lowering.views import covers_buffer, expressed_like

__all__ = ["fuse_chains", "fuse_diamonds"]

_MOST_INPUTS = 8
_MOST_OPERATIONS = 64


def fuse_chains(program: Program) -> None:
    """Before: Pointwise(a * b) -> t; Pointwise(t + c) -> y, the only reader of t. After: Pointwise(a * b + c) -> y.

    Copies count too: one that only changes the layout disappears into what it copies. Stays: what others read; what is
    read spread or in part; what would have more inputs than 8; a caller's rows that would no longer be axis 0.
    """
    for index, group in program.positions():
        current = group
        while isinstance(current, Pointwise):
            merged = _merged(program, index, current)
            if merged is None:
                break
            current = merged


def fuse_diamonds(program: Program) -> None:
    """Before: Pointwise(sigmoid(x)) -> s; Pointwise(x * s) -> y. After: Pointwise(silu(x)) -> y.

    What reads a value twice, once through another group, hides it from the product that makes it.
    """
    for index, group in program.positions():
        current = group
        while isinstance(current, Pointwise) and len(current.inputs) > 1:
            merged = _merged(program, index, current, len(current.inputs) - 1)
            if merged is None:
                break
            current = merged


def _merged(program: Program, index: int, group: Pointwise, most_inputs: int = _MOST_INPUTS) -> Pointwise | None:
    for position, view in enumerate(group.inputs):
        found = program.only_writer(view)
        if found is None or not program.only_reader(view.buffer, index) or not isinstance(found[1], Pointwise):
            continue
        together = _together(found[1], group, position)
        if together is not None and len(together.inputs) <= most_inputs:
            program.put(found[0], None)
            program.put(index, together)
            return together
    return None


def _together(first: Pointwise, second: Pointwise, position: int) -> Pointwise | None:
    given = second.inputs[position]
    same = [each for each in second.inputs if each.buffer is given.buffer]
    if any(each != given for each in same) or not covers_buffer(first.y) or not covers_buffer(given):
        return None
    # What is stored in between is rounded, or cut to integers: only floats may skip that.
    if given.dtype not in ("fp32", "fp16", "bf16", "bool") and first.expr.op != "input":
        return None
    if (first.by_rows or second.by_rows) and not _same_rows(first.y, given):
        return None
    if first.zero_after or second.zero_after:
        return None
    turned = _in_one_set_of_axes(first, second, given)
    if turned is None:
        return None
    y, taken, others = turned
    if first.by_rows and (y.shape[0] != first.y.shape[0] or y.shape[0] != given.shape[0]):
        return None
    inputs: list[View] = []

    def number(view: View) -> int:
        if view not in inputs:
            inputs.append(view)
        return inputs.index(view)

    inner = renumbered(first.expr, {index: number(taken[index]) for index in sorted(inputs_of(first.expr))})
    if given.dtype == "bool" and inner.op == "input":
        inner = Expr("cast", (inner,), dtype="bool")

    def change(index: int) -> Expr:
        return inner if second.inputs[index] == given else Expr("input", index=number(others[index]))

    expr = substituted(second.expr, change)
    if operation_count(expr) > _MOST_OPERATIONS:
        return None
    return replace(
        second,
        name=f"{first.name} + {second.name}",
        y=y,
        inputs=tuple(inputs),
        expr=simplified(expr),
        by_rows=first.by_rows or second.by_rows,
    )


def _in_one_set_of_axes(first: Pointwise, second: Pointwise, given: View) -> tuple[View, list[View], list[View]] | None:
    """The second's output, the first's inputs and the second's inputs, with the second's axes or the first's."""
    taken = [expressed_like(each, first.y, given) for each in first.inputs]
    if None not in taken:
        return second.y, [each for each in taken if each is not None], list(second.inputs)
    y = expressed_like(second.y, given, first.y)
    others = [expressed_like(each, given, first.y) for each in second.inputs]
    if y is None or None in others or (second.by_rows and y.shape[0] != second.y.shape[0]):
        return None
    return y, list(first.inputs), [each for each in others if each is not None]


def _same_rows(first: View, second: View) -> bool:
    """Whether axis 0 of both counts the same rows."""
    return (
        bool(first.shape)
        and bool(second.shape)
        and first.shape[0] == second.shape[0]
        and (first.shape[0] == 1 or first.strides[0] == second.strides[0])
    )
