"""What the handlers of operators share: values as views or constants, new buffers, and the groups made so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from trine.backends.cuda.groups import (
    Buffer,
    Expr,
    Group,
    Pointwise,
    View,
    contiguous_strides,
)
from trine.backends.cuda.lowering.factored import Factored, factored, plain, refactored
from trine.backends.cuda.lowering.static_graph import Array
from trine.backends.cuda.lowering.views import memory_order, order_for, permuted, reshaped
from trine.backends.cuda.lowering.weights import Weights

__all__ = ["SAME", "STORAGE", "CannotLowerError", "Lowering"]

STORAGE = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16", "bf16": "bf16"}
SAME = Expr("input")  # the expression of a copy

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
_OTHERS = {
    ir.DataType.INT64: "int64",
    ir.DataType.INT32: "int32",
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "uint8",
    ir.DataType.BOOL: "bool",
}


class CannotLowerError(Exception):
    """One node cannot be lowered; the text is the reason. ``lower`` collects these."""


class Lowering:
    """Walks with the nodes. ``values`` maps what was made so far to views, or to arrays where it is constant."""

    def __init__(self, precision: str, opset: int, rows: int, weights: Weights | None = None) -> None:
        self.storage = STORAGE[precision]
        self.opset = opset
        self.rows = rows
        self.groups: list[Group] = []
        self.values: dict[ir.Value, View | Factored | Array] = {}
        self.name = ""  # of the node at hand
        # What CPU parts made: for later parts, and for the caller; and the values that no kernel can take, with why.
        self.slots: dict[ir.Value, Buffer] = {}
        self.for_caller: dict[ir.Value, Buffer] = {}
        self.stays: dict[ir.Value, str] = {}
        self._weights = Weights() if weights is None else weights

    # What a node is given

    def given(self, node: ir.Node, position: int) -> View | Array | None:
        """An input as it is; None where it is left out."""
        if position >= len(node.inputs) or (value := node.inputs[position]) is None:
            return None
        return self.of(value)

    def of(self, value: ir.Value) -> View | Array:
        """What was made of a value; axes that are products become axes with a stride, by a copy if need be."""
        found = self.values[value]
        if isinstance(found, Factored):
            view = plain(found)
            found = view if view is not None else self.reshaped(found.base, found.shape)
            self.values[value] = found
        return found

    def tensor(self, node: ir.Node, position: int) -> Factored:
        """An input for those who can do with axes that are products of others."""
        value = node.inputs[position] if position < len(node.inputs) else None
        found = None if value is None else self.values[value]
        return found if isinstance(found, Factored) else factored(self.view(node, position))

    def view(self, node: ir.Node, position: int) -> View:
        """An input as a view; a constant becomes a weight in storage type."""
        found = self.given(node, position)
        if found is None:
            raise CannotLowerError(f"input {position} is missing")
        return found if isinstance(found, View) else self.weight(found, value_name(node, position))

    def constant(self, node: ir.Node, position: int) -> Array | None:
        """A constant input; None where it is left out. Raises CannotLowerError where it is computed."""
        found = self.given(node, position)
        if isinstance(found, View):
            raise CannotLowerError(f"input {position} ({value_name(node, position)}) is computed; only constants work")
        return found

    def ints(self, node: ir.Node, position: int, attribute: str) -> list[int] | None:
        """Integers from an attribute (older opsets) or a constant input; None where neither is given."""
        if attribute in node.attributes:
            return [int(each) for each in node.attributes[attribute].as_ints()]
        array = self.constant(node, position)
        return None if array is None else [int(each) for each in array.reshape(-1)]

    def dtype_of(self, node: ir.Node, position: int = 0) -> str:
        """The element type in which an output is stored. Raises CannotLowerError for types without kernels."""
        return self.stored(node.outputs[position].dtype)

    def stored(self, dtype: ir.DataType | None) -> str:
        """The element type in which values of an ONNX type are stored."""
        if dtype is None or dtype in _FLOATS:
            return self.storage
        if dtype not in _OTHERS:
            raise CannotLowerError(f"element type {dtype.name} has no kernels")
        return _OTHERS[dtype]

    # What a node makes

    def emit(self, group: Group) -> View:
        """Add a group; its output is returned."""
        self.groups.append(group)
        return group.y

    def new(self, shape: Sequence[int], dtype: str | None = None, order: Sequence[int] | None = None) -> View:
        """A buffer of its own; ``order``: the axes from outermost to innermost in memory."""
        shape = tuple(shape)
        buffer = Buffer(f"{self.name}:{len(self.groups)}", "arena", dtype or self.storage, math.prod(shape))
        if order is None:
            return View(buffer, shape, contiguous_strides(shape))
        packed = View(buffer, tuple(shape[a] for a in order), contiguous_strides(tuple(shape[a] for a in order)))
        return permuted(packed, [list(order).index(axis) for axis in range(len(shape))])

    def new_like(self, view: View, dtype: str | None = None) -> View:
        """A buffer with the shape of ``view`` and its order of axes in memory."""
        return self.new(view.shape, dtype or view.dtype, memory_order(view))

    def weight(self, array: Array, name: str, dtype: str | None = None) -> View:
        """A constant in memory, contiguous; see ``Weights``."""
        dtype = dtype or (
            self.storage if array.dtype.kind not in "iub" else str(array.dtype).replace("uint64", "int64")
        )
        return View(self._weights.buffer(array, name, dtype), array.shape, contiguous_strides(array.shape))

    # Moving elements

    def copied(self, view: View, order: Sequence[int] | None = None) -> View:
        """A copy with the axes in this order in memory (as they come, by default)."""
        y = self.new(view.shape, view.dtype, order)
        return self.emit(Pointwise(name=f"{self.name} copy", y=y, inputs=(view,), expr=SAME))

    def reshaped(self, view: View, shape: Sequence[int]) -> View:
        """Another shape, by a copy if need be."""
        found = reshaped(view, shape)
        if found is None:
            found = reshaped(self.copied(view, order_for(view, shape)), shape)
            assert found is not None
        return found

    def refactored(self, tensor: Factored, shape: Sequence[int]) -> View | Factored:
        """Another shape: as a view, with axes that are products, or by a copy."""
        found = refactored(tensor, shape)
        if found is None:
            return self.reshaped(self.reshaped(tensor.base, tensor.shape), shape)
        view = plain(found)
        return found if view is None else view

    def merged(self, view: View, blocks: Sequence[Sequence[int]]) -> View:
        """One axis for each block of axes, in that order, by a copy if need be."""
        turned = permuted(view, [axis for block in blocks for axis in block])
        return self.reshaped(turned, [math.prod(view.shape[axis] for axis in block) for block in blocks])

    def innermost_contiguous(self, view: View) -> View:
        """The view itself if its last axis has stride 1, or else a copy."""
        if view.shape[-1] == 1 and view.strides[-1] != 1:
            view = replace(view, strides=(*view.strides[:-1], 1))
        return view if view.strides[-1] == 1 else self.copied(view)


def value_name(node: ir.Node, position: int) -> str:
    """How the source calls an input."""
    value = node.inputs[position] if position < len(node.inputs) else None
    return (value.name if value is not None else None) or f"{node.name}/{position}"
