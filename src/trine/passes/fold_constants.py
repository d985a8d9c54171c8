"""Computes ahead of time what does not depend on the inputs, where that costs little and saves bytes."""

from __future__ import annotations

import math

import onnx_ir as ir
from onnxscript import optimizer

from trine.passes.rewriting import Counted, all_nodes, constant, known_dims

__all__ = ["FoldConstants"]

# A folded result may be this much larger than the constants that it replaces, and all results together this much:
# enough for the biases that PyTorch's exporter writes as Expand, far too little for position grids and masks.
GROWTH_BYTES = 64 << 10
TOTAL_GROWTH_BYTES = 1 << 20
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
_PRODUCTS = ("MatMul", "Gemm")
_SEQUENCES = ("SequenceConstruct", "SequenceAt", "ConcatFromSequence", "SplitToSequence")
_FOLDABLE = frozenset([*f"{_POINTWISE} {_MOVEMENT} {_REDUCTIONS}".split(), *_PRODUCTS])


class FoldConstants(ir.passes.InPlacePass):
    """Evaluates nodes whose inputs are all constant, and shapes that are known; infers shapes on the way.

    Before: ``s = Shape(w); h = Div(s, 2); y = Slice(x, [0], h)``, with a constant ``w``.
    After: ``y = Slice(x, [0], [8])``.

    A result is kept only if it takes at most 64 KiB more than the constants that it replaces, and all together at
    most 1 MiB more: ``Expand`` of a scalar to a large shape stays.
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
            modified = optimizer.fold_constants_ir(
                model,
                onnx_shape_inference=True,
                output_size_limit=GROWTH_BYTES,
                should_fold=_Budget().worth_folding,
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


class _Budget:
    """Decides for each node what folding it would cost, and keeps count of how much the model has grown."""

    def __init__(self) -> None:
        self.left_bytes = TOTAL_GROWTH_BYTES

    def worth_folding(self, node: ir.Node) -> bool:
        """Whether to evaluate ``node``, whose inputs are all constants."""
        if node.domain != "" or node.op_type not in _FOLDABLE or len(node.outputs) != 1:
            return False
        given = {value: value.const_value for value in node.inputs if value is not None}
        tensors = [tensor for tensor in given.values() if tensor is not None]
        if any(tensor.dtype == ir.DataType.STRING or tensor.dtype.itemsize < 1 for tensor in tensors):
            return False
        output = node.outputs[0]
        dims = known_dims(output)
        if dims is None or output.dtype is None or output.dtype == ir.DataType.STRING:
            return False
        elements = math.prod(dims)
        freed = sum(
            tensor.nbytes
            for value, tensor in given.items()
            if tensor is not None and not value.is_graph_output() and {user for user, _ in value.uses()} == {node}
        )
        growth = int(elements * output.dtype.itemsize) - freed
        if growth > min(GROWTH_BYTES, self.left_bytes):
            return False
        work = max([elements, *(tensor.size for tensor in tensors)])
        if node.op_type in _PRODUCTS:
            # (rows, inner) by (inner, columns): the square root of the three sizes' product is rows * inner * columns
            factors = [value.const_value.size for value in node.inputs[:2] if value is not None and value.const_value]
            work = math.isqrt(math.prod([elements, *factors]))
        if work > WORK_ELEMENTS:
            return False
        self.left_bytes -= max(0, growth)
        return True
