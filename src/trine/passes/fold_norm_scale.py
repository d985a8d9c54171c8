"""Folds scale and bias of a layer normalisation into the weights of the matrix products that read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trine.passes.fold_affine import channel_constant
from trine.passes.rewriting import (
    FLOATS,
    NodePass,
    add_initializer,
    constant,
    int_attribute,
    is_op,
    made_by,
    rank_of,
    replace,
)
from trine.passes.scaled_weights import drop_if_unused, foldable_weights, is_own_constant

__all__ = ["FoldNormScale"]

_MOST = 64.0  # the largest scale, or one over it: beyond, scaled weights might leave what 16 bits can say


class FoldNormScale(NodePass):
    """Folds scale and bias of LayerNormalization into the weights and biases of the products that read it.

    Before: ``n = LayerNormalization(x, s, t); m = MatMul(n, w); y = Add(m, b)``.
    After: ``n = LayerNormalization(x, ones, zeros); m = MatMul(n, s * w); y = Add(m, b + t @ w)``.

    What is left of it needs the mean and deviation of each row only, so that a product may read x instead. Also with
    Gemm, with several products, and with a Transpose before them. Computed in float64, then rounded once. Stays: what
    anything else reads or that is an output; other axes than the last one; weights that are shared or no constants; a
    scale of ones; scales that are all below 1/64, or one above 64.
    """

    def rewrite(self, node: ir.Node) -> bool:
        """Looks from the normalisation forward at the products."""
        if not is_op(node, "LayerNormalization") or any(out.uses() for out in node.outputs[1:]):
            return False
        x, given_scale = node.inputs[:2]
        given_shift = node.inputs[2] if len(node.inputs) > 2 else None
        rank, scale, shift = rank_of(x), constant(given_scale), constant(given_shift)
        if rank is None or scale is None or scale.ndim != 1 or (shift is None) != (given_shift is None):
            return False
        if int_attribute(node, "axis", -1) not in (-1, rank - 1) or given_scale is None:
            return False
        if (scale == 1).all() or not 1 / _MOST <= np.abs(scale).max() <= _MOST:
            return False
        shift_by = np.zeros(scale.size) if shift is None else shift.astype(np.float64)
        if shift_by.shape != scale.shape:
            return False
        folded = []
        for user in _readers(node.outputs[0], node.graph):
            fold = None if user is None else _fold(user, scale.astype(np.float64), shift_by)
            if fold is None:
                return False
            folded.append(fold)
        if not folded:
            return False
        for each in folded:
            each.put()
        node.replace_input_with(1, add_initializer(node, f"{given_scale.name}", np.ones_like(scale)))
        drop_if_unused(given_scale)
        if given_shift is not None and shift is not None and shift.any():
            node.replace_input_with(2, add_initializer(node, f"{given_shift.name}", np.zeros_like(shift)))
            drop_if_unused(given_shift)
        return True


@dataclass(frozen=True)
class _Fold:
    """A product with other weights, and the node that has its bias: the product, an Add, or None for one to be made."""

    product: ir.Node
    weights: ir.Value
    scaled: np.ndarray
    bias: np.ndarray | None  # None: as it was
    biased: ir.Node | None
    position: int

    def put(self) -> None:
        """Changes the graph."""
        product = self.product
        product.replace_input_with(1, add_initializer(product, f"{self.weights.name}", self.scaled))
        drop_if_unused(self.weights)
        biased = self.biased
        if self.bias is None:
            return
        if biased is None:
            self._add(self.bias)
            return
        old = biased.inputs[self.position] if self.position < len(biased.inputs) else None
        stem = old.name if old is not None else f"{self.weights.name}/bias"
        made = add_initializer(biased, f"{stem}", self.bias)
        if self.position < len(biased.inputs):
            biased.replace_input_with(self.position, made)
        else:
            replace(biased, "Gemm", [*biased.inputs, made], biased.attributes.values())
        if old is not None:
            drop_if_unused(old)

    def _add(self, given: np.ndarray) -> None:
        product = self.product
        graph = product.graph
        assert graph is not None
        bias = add_initializer(product, f"{self.weights.name}/bias", given)
        again = ir.Node("", "MatMul", list(product.inputs), name=product.name, metadata_props=product.metadata_props)
        again.outputs[0].type, again.outputs[0].shape = product.outputs[0].type, product.outputs[0].shape
        graph.insert_before(product, again)
        replace(product, "Add", [again.outputs[0], bias]).name = f"{product.name}/bias"


def _readers(value: ir.Value, graph: ir.Graph | ir.Function | None) -> Iterator[ir.Node | None]:
    """The products that read it, behind a Transpose too; None for anything else."""
    if value.is_graph_output():
        yield None
    for user, position in value.uses():
        if user.graph is not graph:
            yield None
        elif is_op(user, "MatMul", "Gemm") and position == 0:
            yield user
        elif is_op(user, "Transpose") and "perm" in user.attributes:
            order = list(user.attributes["perm"].as_ints())
            if order[-1] == len(order) - 1:
                yield from _readers(user.outputs[0], graph)
            else:
                yield None
        else:
            yield None


def _fold(product: ir.Node, scale: np.ndarray, shift: np.ndarray) -> _Fold | None:
    """What the product becomes; None where it cannot be."""
    weights = product.inputs[1]
    if weights is None or weights.dtype not in FLOATS or not is_own_constant(weights):
        return None
    array = constant(weights)
    gemm = product.op_type == "Gemm"
    turned = gemm and int_attribute(product, "transB", 0) != 0
    if array is None or array.ndim != 2 or array.shape[1 if turned else 0] != scale.size:
        return None
    biased, position = (product, 2) if gemm else _added(product, array.shape[1])
    if gemm:
        plain = all(product.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        if not plain or int_attribute(product, "transA", 0) or not foldable_weights(product):
            return None
    wide = array.astype(np.float64)
    scaled = (wide * (scale if turned else scale[:, None])).astype(array.dtype)
    added = wide @ shift if turned else shift @ wide
    old = biased.inputs[position] if biased is not None and position < len(biased.inputs) else None
    given = constant(old)
    total = added if given is None else given.astype(np.float64).reshape(-1) + added
    with np.errstate(over="ignore"):
        bias = total.astype(array.dtype)
        if not all(np.isfinite(each).all() for each in (scaled, added.astype(array.dtype), bias)):
            return None
    return _Fold(product, weights, scaled, bias if added.any() else None, biased, position)


def _added(product: ir.Node, columns: int) -> tuple[ir.Node | None, int]:
    """The Add of a constant of each column, and the position of that constant; None where there is no such."""
    rank = rank_of(product.outputs[0])
    for node, own in product.outputs[0].uses():
        if rank is None or not is_op(node, "Add") or made_by(node.inputs[own], "MatMul") is not product:
            continue
        if channel_constant(node.inputs[1 - own], rank, rank - 1, columns) is not None:
            return node, 1 - own
    return None, 0
