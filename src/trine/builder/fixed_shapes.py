"""What the profile fixes, the graph may know: backends plan better for shapes that are numbers."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from trine.profile import ShapeRange

__all__ = ["fix_shapes"]


def fix_shapes(model: ir.Model, ranges: Mapping[str, ShapeRange]) -> dict[str, int]:
    """Replace each dynamic dimension of the inputs that ``ranges`` gives one size by that size, in place.

    A dimension is a symbol that several inputs may share; it is fixed everywhere. What the graph infers from it, such
    as "2*batch", is forgotten, for shape inference to find out anew. Returns the sizes by symbol.
    """
    sizes: dict[str, int] = {}
    for value in model.graph.inputs:
        shape_range = ranges.get(value.name or "")
        if value.shape is None or shape_range is None:
            continue
        dims: list[int | ir.SymbolicDim] = []
        for axis, dim in enumerate(value.shape):
            low, high = shape_range.min[axis], shape_range.max[axis]
            if isinstance(dim, ir.SymbolicDim) and low == high:
                if dim.value is not None:
                    sizes[str(dim.value)] = low
                dims.append(low)
            else:
                dims.append(dim)
        value.shape = ir.Shape(dims)
    if sizes:
        _substitute(model.graph, sizes)
    return sizes


def _substitute(graph: ir.Graph, sizes: Mapping[str, int]) -> None:
    """Sizes for the symbols themselves; unknown for what is not a symbol of the inputs that stays open."""
    open_symbols = {
        str(dim.value)
        for value in graph.inputs
        for dim in value.shape or ()
        if isinstance(dim, ir.SymbolicDim) and dim.value is not None
    }
    for value in (*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)):
        if value.shape is None:
            continue
        value.shape = ir.Shape([_substituted(dim, sizes, open_symbols) for dim in value.shape])


def _substituted(dim: int | ir.SymbolicDim, sizes: Mapping[str, int], open_symbols: set[str]) -> int | str | None:
    if isinstance(dim, int):
        return dim
    symbol = str(dim.value)
    if symbol in sizes:
        return sizes[symbol]
    return symbol if symbol in open_symbols else None
