"""Recognises activation functions by what they compute, however they are spelled."""

from __future__ import annotations

import onnx_ir as ir

from trine.passes.activations import ACTIVATIONS, NONLINEAR, POINTS, TOLERANCES, Activation, evaluate, is_evaluable
from trine.passes.rewriting import Counted, NodePass, is_op, is_private, rank_of, replace, scalar

__all__ = ["RecogniseActivations"]

_LARGEST = 14  # nodes in a spelled-out activation; the tanh form of GELU has up to 10


class RecogniseActivations(NodePass):
    """Writes SiLU, HardSwish and GELU (with erf or tanh) in the form that backends run fastest.

    Before: ``a = Div(x, 1.4142); b = Erf(a); c = Add(b, 1); d = Mul(x, c); y = Mul(d, 0.5)``.
    After: ``y = Gelu(x)``. HardSwish becomes ``HardSwish``, SiLU becomes ``Mul(x, Sigmoid(x))``: the operator Swish
    of opset 24 is slower in ONNX Runtime (docs/passes.md).

    Arithmetic between one tensor and numbers is followed back from a product, evaluated at sample points, and
    compared with each function: any order and grouping of the operations is recognised, and nothing else is.
    Stays: arithmetic of which others use a part, or that ends in an output; with constants that are not single
    numbers, or of higher rank than the tensor; in other types than float32 and float16; where the model's opset
    has no such operator (HardSwish 14, Gelu 20).
    """

    def call(self, model: ir.Model) -> Counted:
        """Numbers the nodes in topological order, then visits them."""
        self._order: dict[ir.Node, float] = {
            node: number for graph in model.graphs() for number, node in enumerate(graph)
        }
        return super().call(model)

    def rewrite(self, node: ir.Node) -> bool:
        """Follows the arithmetic that ends in ``node`` back to the one tensor that it depends on."""
        if not is_op(node, "Mul", "Div") or node.outputs[0].dtype not in TOLERANCES:
            return False
        region, leaves = [node], _tensors(node)
        while len(region) <= _LARGEST:
            if len(leaves) == 1:
                (source,) = leaves
                form = self._form(region, source)
                if form is not None:
                    return self._write(form, source, region)
            # The last node first: then the leaves shrink to one tensor if everything comes from it.
            made = [leaf.producer() for leaf in leaves]
            following = [each for each in made if each is not None and each in self._order and is_evaluable(each)]
            if not following:
                return False
            latest = max(following, key=self._order.__getitem__)
            region.append(latest)
            leaves.discard(latest.outputs[0])
            leaves |= _tensors(latest)
        return False

    def _form(self, region: list[ir.Node], source: ir.Value) -> Activation | None:
        """The activation that the nodes, of which the first makes the result, compute from ``source``."""
        root, rank = region[0], rank_of(source)
        if source.dtype != root.outputs[0].dtype or not any(node.op_type in NONLINEAR for node in region):
            return None
        numbers = [value for node in region for value in node.inputs if value is not None and scalar(value) is not None]
        if any(rank_of(number) != 0 and (rank is None or (rank_of(number) or 0) > rank) for number in numbers):
            return None  # the number would broadcast the tensor to a higher rank
        if not is_private(region, root, (source,)) or any(node.graph is not root.graph for node in region):
            return None
        result = evaluate(root, source)
        if result is None:
            return None
        tolerance = TOLERANCES[ir.DataType(root.outputs[0].dtype or 0)]
        for form in ACTIVATIONS:
            if self.opset >= form.since and abs(result - form.function(POINTS)).max() <= tolerance:
                return form
        return None

    def _write(self, form: Activation, source: ir.Value, region: list[ir.Node]) -> bool:
        if len(region) <= form.nodes:
            return False  # it is in this form already
        root, absorbed = region[0], region[1:]
        assert root.graph is not None
        if form.op_type == "SiLU":
            gate = ir.Node("", "Sigmoid", [source], metadata_props=dict(root.metadata_props))
            gate.outputs[0].type, gate.outputs[0].shape = source.type, source.shape
            root.graph.insert_before(root, gate)
            made = replace(root, "Mul", [source, gate.outputs[0]], absorbed=absorbed)
            self._order[gate] = self._order[root] - 0.5
        else:
            made = replace(root, form.op_type, [source], dict(form.attributes), absorbed=absorbed)
        self._order[made] = self._order[root]
        return True


def _tensors(node: ir.Node) -> set[ir.Value]:
    """The inputs that are no numbers."""
    return {value for value in node.inputs if value is not None and scalar(value) is None}
