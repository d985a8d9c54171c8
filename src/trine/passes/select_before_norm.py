"""Selects the rows that are read before a layer normalisation, instead of after it."""

from __future__ import annotations

import math

import onnx_ir as ir

from trine.passes.rewriting import NodePass, axes_of, constant, int_attribute, is_op, known_dims, made_by, replace

__all__ = ["SelectBeforeNorm"]


class SelectBeforeNorm(NodePass):
    """Moves a Gather or Slice of rows before the LayerNormalization, so that only what is read is normalised.

    Before: ``n = LayerNormalization(x, s, t, axis=-1); y = Gather(n, 0, axis=1)``, with x: [batch, 197, 768].
    After: ``g = Gather(x, 0, axis=1); y = LayerNormalization(g, s, t, axis=-1)``.

    Vision transformers end like this: the head reads one token of each picture. Stays: a result that others use too
    or that is an output; a selection along a normalised axis; a scale or bias of more dimensions than are normalised;
    what selects more than half of the rows, or more than one of a dynamic dimension, as little is saved and the
    normalisation may be fused with what makes ``x``; before opset 17.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the selection back at the normalisation."""
        if self.opset < 17 or not is_op(node, "Gather", "Slice"):
            return False
        norm = made_by(node.inputs[0], "LayerNormalization")
        if norm is None or norm.graph is not node.graph or any(out.is_graph_output() for out in norm.outputs[1:]):
            return False
        source = norm.inputs[0]
        if source is None or source.shape is None:
            return False
        rank = len(source.shape)
        normalised = rank - int_attribute(norm, "axis", -1) % rank  # how many axes: the last ones, before and after
        if any(each is not None and (each.shape is None or len(each.shape) > normalised) for each in norm.inputs[1:]):
            return False
        taken = _taken(node, source.shape)
        if taken is None or any(axis >= rank - normalised for axis in taken):
            return False
        if not any(_is_few(count, source.shape[axis]) for axis, count in taken.items()):
            return False
        selected = ir.Node(
            "",
            str(node.op_type),
            [source, *node.inputs[1:]],
            node.attributes.values(),
            name=node.name,
            metadata_props=dict(node.metadata_props),
        )
        selected.outputs[0].type, selected.outputs[0].shape = source.type, node.outputs[0].shape
        graph = node.graph
        assert graph is not None
        graph.insert_before(node, selected)
        attributes = [each for name, each in norm.attributes.items() if name != "axis"]
        inputs = [selected.outputs[0], *norm.inputs[1:]]
        made = replace(
            node, "LayerNormalization", inputs, [*attributes, ir.AttrInt64("axis", -normalised)], absorbed=[norm]
        )
        made.name = norm.name
        made.metadata_props.update(norm.metadata_props)
        return True


def _taken(node: ir.Node, shape: ir.Shape) -> dict[int, int] | None:
    """How many positions the node takes along each axis that it selects from; None if that is not known.

    Where the dimension is dynamic, it is taken to be long.
    """
    rank = len(shape)
    if node.op_type == "Gather":
        indices = known_dims(node.inputs[1])
        return None if indices is None else {int_attribute(node, "axis", 0) % rank: math.prod(indices)}
    starts, ends, axes, steps = [*node.inputs[1:], None, None][:4]
    first, last = constant(starts, limit=64), constant(ends, limit=64)
    stride = constant(steps, limit=64)
    along = range(rank) if axes is None else axes_of(node, position=3)
    if first is None or last is None or along is None or (stride is None and steps is not None):
        return None
    by = [1] * len(first) if stride is None else stride
    taken: dict[int, int] = {}
    for axis, *bounds in zip(along, first, last, by, strict=False):
        dim = shape[axis]
        length = dim if isinstance(dim, int) else 2**31 - 1  # exporters write this for "to the end", or more
        taken[axis % rank] = len(range(*slice(*map(int, bounds)).indices(length)))
    return taken


def _is_few(count: int, dim: int | ir.SymbolicDim) -> bool:
    return 2 * count <= dim if isinstance(dim, int) else count <= 1
