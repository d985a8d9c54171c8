"""Einsum of one operand as a reduction, of two as a product."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Epilogue, View
from trine.backends.cuda.lowering.pooling import reduced
from trine.backends.cuda.lowering.products import product
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.views import permuted

__all__ = ["lower_einsum"]


def lower_einsum(lowering: Lowering, node: ir.Node) -> list[View]:
    """``bhid,bhjd->bhij``: letters in both and the result are batch axes, letters not in the result are summed over."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    if "." in equation:
        raise CannotLowerError(f"{equation!r}: an ellipsis is not supported")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = left.replace(",", "")
        result = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    if any(len(set(term)) != len(term) for term in (*terms, result)):
        raise CannotLowerError(f"{equation!r}: a letter twice in one term is not supported")
    if len(terms) not in (1, 2):
        raise CannotLowerError(f"{equation!r}: {len(terms)} operands; up to two are supported")
    views = []
    for position, term in enumerate(terms):
        given = lowering.given(node, position)
        view = (
            lowering.weight(given, value_name(node, position))
            if isinstance(given, np.ndarray)
            else lowering.view(node, position)
        )
        others = set(result).union(*(each for index, each in enumerate(terms) if index != position))
        gone = tuple(axis for axis, letter in enumerate(term) if letter not in others)
        if gone:
            view = reduced(lowering, view, gone, "sum", keep=False)
            terms[position] = "".join(letter for letter in term if letter in others)
        views.append(view)
    if len(views) == 1:
        return [permuted(views[0], [terms[0].index(letter) for letter in result])]
    return [_product(lowering, views[0], views[1], terms[0], terms[1], result)]


def _product(lowering: Lowering, a: View, b: View, left: str, right: str, result: str) -> View:
    batch = [letter for letter in result if letter in left and letter in right]
    rows = [letter for letter in result if letter in left and letter not in right]
    columns = [letter for letter in result if letter in right and letter not in left]
    inner = [letter for letter in left if letter not in result]
    sizes = dict(zip(left, a.shape, strict=True)) | dict(zip(right, b.shape, strict=True))
    first = _arranged(lowering, a, left, batch, rows, inner)
    second = _arranged(lowering, b, right, batch, columns, inner)
    y = product(lowering, first, second, Epilogue())
    letters = [*batch, *rows, *columns]
    spread = lowering.reshaped(y, [sizes[letter] for letter in letters])
    return permuted(spread, [letters.index(letter) for letter in result])


def _arranged(lowering: Lowering, view: View, term: str, batch: list[str], outer: list[str], inner: list[str]) -> View:
    """(batch..., outer, inner), the latter two merged into one axis each."""
    blocks = [[term.index(letter)] for letter in batch]
    blocks += [[term.index(letter) for letter in outer], [term.index(letter) for letter in inner]]
    made = lowering.merged(view, blocks)
    if math.prod(made.shape[-1:]) == 1:
        made = replace(made, strides=(*made.strides[:-1], 1))
    return made
