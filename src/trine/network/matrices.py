"""Products of matrices, and sums of products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from trine.network.layer import Layer
from trine.network.operations import LayerType, MatrixOperation
from trine.network.settings import Setting, choice, text
from trine.network.writer import Writer

__all__ = ["EinsumLayer", "MatrixMultiplyLayer", "transposed"]


def transposed(w: Writer, value: ir.Value) -> ir.Value:
    """``value`` with its last two dimensions swapped."""
    rank = w.rank(value)
    if rank < 2:
        raise w.error(f"only a tensor of two or more dimensions can be transposed, got {w.dims(value)}")
    return w.op("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])


class MatrixMultiplyLayer(Layer):
    """op0(input 0) times op1(input 1), for each of the matrices that the dimensions before the last two count.

    NONE takes an input as it is, TRANSPOSE swaps its last two dimensions, VECTOR takes its last one as a vector.
    """

    kind = LayerType.MATRIX_MULTIPLY
    max_inputs: ClassVar[int] = 2

    op0 = Setting(choice(MatrixOperation), MatrixOperation.NONE)
    op1 = Setting(choice(MatrixOperation), MatrixOperation.NONE)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """MatMul; a vector is a matrix of one row, or of one column, that the product loses again."""
        sides = []
        gone = []
        for index, (value, operation) in enumerate(zip(inputs, (self.op0, self.op1), strict=True)):
            if value is None:
                raise w.error("it needs two inputs")
            made = value
            if operation is MatrixOperation.VECTOR:
                if w.rank(value) < 1:
                    raise w.unfinished(f"input {index} has no dimensions, so it is no vector")
                gone.append(-2 if index == 0 else -1)
                made = w.op("Unsqueeze", value, w.ints([gone[-1]]))
            elif w.rank(value) < 2:
                raise w.unfinished(
                    f"input {index} has shape {w.dims(value)}, so it is no matrix; op{index} may be VECTOR"
                )
            elif operation is MatrixOperation.TRANSPOSE:
                made = transposed(w, value)
            sides.append(made)
        a, b = w.dims(sides[0])[-1], w.dims(sides[1])[-2]
        if isinstance(a, int) and isinstance(b, int) and a != b:
            raise w.unfinished(
                f"the inner dimensions differ: {a} of input 0 ({w.dims(inputs[0])}, {self.op0.name}) and {b} of "
                f"input 1 ({w.dims(inputs[1])}, {self.op1.name})"
            )
        product = w.op("MatMul", *sides)
        return [w.op("Squeeze", product, w.ints(gone)) if gone else product]


class EinsumLayer(Layer):
    """Sums of products that ``equation`` describes, as NumPy's einsum does: "ij,jk->ik"."""

    kind = LayerType.EINSUM
    max_inputs: ClassVar[int] = 1 << 10

    equation = Setting(text)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Einsum."""
        terms = self.equation.replace(" ", "").split("->")[0].split(",")
        if len(terms) != len(inputs):
            raise w.error(f"equation {self.equation!r} has {len(terms)} terms, there are {len(inputs)} inputs")
        for index, (term, value) in enumerate(zip(terms, inputs, strict=True)):
            if "..." not in term and len(term) != w.rank(value):
                raise w.error(
                    f"equation {self.equation!r}: {term!r} names {len(term)} dimensions, input {index} has "
                    f"{w.rank(value)}: {w.dims(value)}"
                )
        return [w.op("Einsum", *inputs, equation=self.equation)]
