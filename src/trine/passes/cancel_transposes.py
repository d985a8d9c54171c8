"""Merges transposes that follow one another."""

from __future__ import annotations

import onnx_ir as ir

from trine.passes.rewriting import NodePass, forward, is_op, replace

__all__ = ["CancelTransposes"]


class CancelTransposes(NodePass):
    """Makes one Transpose of two, and none of two that undo each other.

    Before: ``a = Transpose(x, perm=[0, 2, 1]); y = Transpose(a, perm=[0, 2, 1])``.
    After: ``y`` is ``x``; with other permutations, ``y = Transpose(x, perm=...)``.

    The first Transpose stays if others use it. A Transpose without ``perm`` (it reverses the axes) takes part too,
    if the rank is known from the other.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the second Transpose back at the first."""
        if not is_op(node, "Transpose") or (middle := node.inputs[0]) is None:
            return False
        first = middle.producer()
        if first is None or not is_op(first, "Transpose") or (source := first.inputs[0]) is None:
            return False
        one, two = _perm(first), _perm(node)
        rank = len(one or two or ())
        if not rank:
            return False
        reverse = list(range(rank))[::-1]
        one, two = one or reverse, two or reverse
        if len(one) != len(two):
            return False
        both = [one[axis] for axis in two]
        if both == list(range(rank)):
            return forward(node, source)
        replace(node, "Transpose", [source], {"perm": both})
        return True


def _perm(node: ir.Node) -> list[int] | None:
    attribute = node.attributes.get("perm")
    return list(attribute.as_ints()) if attribute else None
