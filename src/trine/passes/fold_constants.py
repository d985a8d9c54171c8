"""Computes ahead of time what does not depend on the inputs, where that costs little and saves bytes."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from onnxscript import optimizer

from trine.passes.rewriting import Counted, all_nodes, constant, known_dims

__all__ = ["FoldConstants"]

# A folded result may be this much larger than the constants that it replaces: about what a node itself takes.
GROWTH_BYTES = 1024
# Evaluating one node may touch this many elements (multiply-adds, for MatMul).
WORK_ELEMENTS = 1 << 27

# Only plain arithmetic and data movement: their reference implementations are NumPy calls. Convolutions and the
# like are Python loops there, quantised operators must stay visible, random ones must stay random.
_POINTWISE = (
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Cos Div Equal Erf Exp "
    "Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal Relu "
    "Round Sigmoid Sign Sin Softplus Sqrt Sub Sum Tan Tanh Where Xor"
)
_MOVEMENT = (
    "Concat ConstantOfShape CumSum Expand EyeLike Flatten Gather GatherElements GatherND Identity OneHot Pad Range "
    "Reshape Shape Size Slice Squeeze Tile Transpose Trilu Unsqueeze"
)
_REDUCTIONS = "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum"
_PRODUCTS = "MatMul Gemm"
_SEQUENCES = ("SequenceConstruct", "SequenceAt", "ConcatFromSequence", "SplitToSequence")
_FOLDABLE = frozenset(f"{_POINTWISE} {_MOVEMENT} {_REDUCTIONS} {_PRODUCTS}".split())


class FoldConstants(ir.passes.InPlacePass):
    """Evaluates nodes whose inputs are all constant, and shapes that are known; infers shapes on the way.

    Before: ``s = Shape(w); h = Div(s, 2); y = Slice(x, [0], h)``, with a constant ``w``.
    After: ``y = Slice(x, [0], [8])``.

    A result is kept only if the model grows by at most 1 KiB: ``Expand`` of a scalar to a large shape stays.
    A constant that others use too is not freed by folding, and counts as growth.
    Quantised, random, sequence, string and control-flow operators stay, except ``If`` with a constant condition.
    """

    def call(self, model: ir.Model) -> Counted:
        """Wraps onnxscript's folder and tells it what is worth folding."""
        before = model.graph.num_nodes()
        functions = dict(model.functions)
        hidden = {node: node.domain for node in all_nodes(model) if _mishandled(node, model.opset_imports.get("", 1))}
        model.functions.clear()  # those that could not be inlined may have another opset, which the folder ignores
        for node in hidden:
            node.domain = "trine.hidden"
        try:
            with np.errstate(all="ignore"):  # constants may hold infinities and zeros
                modified = optimizer.fold_constants_ir(
                    model,
                    onnx_shape_inference=True,
                    output_size_limit=GROWTH_BYTES // 8,
                    should_fold=_worth_folding,
                ).modified
        finally:
            model.functions.update(functions)
            for node, domain in hidden.items():
                node.domain = domain
        return Counted(model, modified, max(int(modified), before - model.graph.num_nodes()))


def _mishandled(node: ir.Node, opset: int) -> bool:
    """Whether onnxscript's folder fails on ``node``: it writes what replaces sequences in the forms of opset 13,
    raises on a split that is computed, drops the types of training operators' results, and turns CastLike into Cast
    without its attributes (saturate, round_mode).
    """
    if node.domain.startswith("ai.onnx.preview"):
        return True
    if node.domain == "" and node.op_type == "CastLike":
        return bool(node.attributes)
    if node.domain != "" or node.op_type not in _SEQUENCES:
        return False
    if node.op_type == "SplitToSequence" and len(node.inputs) > 1 and node.inputs[1] is not None:
        return opset < 13 or constant(node.inputs[1]) is None
    return opset < 13


def _worth_folding(node: ir.Node) -> bool:
    """Whether to evaluate ``node``, whose inputs are all constants."""
    if node.domain != "" or node.op_type not in _FOLDABLE or len(node.outputs) != 1:
        return False
    given = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
    if any(tensor.dtype == ir.DataType.STRING or tensor.dtype.itemsize < 1 for tensor in given):
        return False
    output = node.outputs[0]
    dims = known_dims(output)
    if dims is None or output.dtype is None:
        return False
    elements = math.prod(dims)
    freed = sum(
        value.const_value.nbytes
        for value in {id(value): value for value in node.inputs if value is not None}.values()
        if value.const_value is not None
        and len({user for user, _ in value.uses()}) == 1
        and not value.is_graph_output()
    )
    if elements * output.dtype.itemsize > freed + GROWTH_BYTES:
        return False
    work = max([elements, *(tensor.size for tensor in given)])
    if node.op_type in _PRODUCTS.split():
        work = elements * max(tensor.size for tensor in given) // max(1, min(max(dims, default=1), elements))
    return work <= WORK_ELEMENTS
