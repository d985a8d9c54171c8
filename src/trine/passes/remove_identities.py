"""Removes nodes whose output equals their input."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from trine.passes.rewriting import NodePass, constant, forward, int_attribute, is_op, rank_of, same_dims, scalar

__all__ = ["RemoveIdentities"]

_NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0, "Pow": 1.0}


class RemoveIdentities(NodePass):
    """Removes Identity, Dropout outside training, arithmetic with a neutral element, and moves that move nothing.

    Before: ``a = Dropout(x); b = Mul(a, 1); c = Cast(b, to=float); y = Relu(c)``, with a float ``x``.
    After: ``y = Relu(x)``.

    Stays: Dropout in training mode or with a mask that somebody uses; a neutral element whose shape may broadcast
    the other operand; a Reshape, Expand or Slice whose shapes are not known to be equal; and a node between a
    graph's input (or an outer scope's value) and its output, as ONNX wants one there.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Points the users of an identity at its input."""
        if not is_op(node, node.op_type) or not node.outputs:
            return False
        kept = self._equal_input(node)
        if kept is None or kept.type is None or kept.type != node.outputs[0].type:
            return False
        return forward(node, kept)

    def _equal_input(self, node: ir.Node) -> ir.Value | None:
        """The input that the first output always equals, None if there is none."""
        if not node.inputs or (first := node.inputs[0]) is None:
            return None
        op_type, output = node.op_type, node.outputs[0]
        if op_type in _NEUTRAL:
            return self._without_neutral(node)
        same = False
        if op_type == "Identity":
            if output.type is None:
                output.type = first.type
            same = True
        elif op_type in ("Concat", "Sum", "Mean", "Max", "Min"):
            same = len(node.inputs) == 1
        elif op_type == "Dropout":
            same = self._never_drops(node)
        elif op_type in ("Cast", "CastLike"):
            same = first.dtype is not None and first.dtype == output.dtype
        elif op_type == "Transpose":
            rank = rank_of(first)
            perm = node.attributes.get("perm")
            same = list(perm.as_ints()) == list(range(len(perm.as_ints()))) if perm else rank is not None and rank < 2
        elif op_type in ("Reshape", "Expand", "Flatten"):
            same = same_dims(first, output)
        elif op_type == "Tile":
            repeats = constant(node.inputs[1], limit=64)
            same = repeats is not None and bool(np.all(repeats == 1))
        elif op_type == "Pad":
            pads = node.attributes.get("pads")
            amounts = np.array(pads.as_ints()) if pads else constant(node.inputs[1], limit=64)
            same = amounts is not None and not np.any(amounts)
        elif op_type == "Slice":
            steps = constant(node.inputs[4], limit=64) if len(node.inputs) > 4 else np.ones(1)
            same = steps is not None and bool(np.all(steps == 1)) and same_dims(first, output)
        return first if same else None

    def _without_neutral(self, node: ir.Node) -> ir.Value | None:
        """The other operand of ``x + 0``, ``x * 1`` and so on, if the constant cannot broadcast it."""
        neutral = _NEUTRAL[node.op_type]
        positions = (1, 0) if node.op_type in ("Add", "Mul") else (1,)
        for position in positions:
            value, other = node.inputs[position], node.inputs[1 - position]
            if scalar(value) != neutral:
                continue
            rank, other_rank = rank_of(value), rank_of(other)
            if rank == 0 or (rank is not None and other_rank is not None and rank <= other_rank):
                return other
        return None

    def _never_drops(self, node: ir.Node) -> bool:
        if self.opset < 7:
            return int_attribute(node, "is_test", 0) == 1
        if self.opset < 12 or len(node.inputs) < 3 or node.inputs[2] is None:
            return True
        training = constant(node.inputs[2], limit=1)
        return training is not None and not training.any()
