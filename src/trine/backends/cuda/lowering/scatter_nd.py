"""ScatterND with constant indices, as assignments to a slice (``x[:, 2:4] = y``, ``x[:] += y``) are exported."""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import GatherRows, Pointwise, View
from trine.backends.cuda.lowering.state import SAME, CannotLowerError, Lowering
from trine.backends.cuda.lowering.views import sliced

__all__ = ["lower_scatter_nd"]

_RUNS = 8  # of neighbouring rows, at most, that are copied one by one


def lower_scatter_nd(lowering: Lowering, node: ir.Node) -> list[View]:
    """Rows of what lies below the indexed axes, each taken from the data or from the updates.

    Of an index that comes twice, the last counts; ONNX leaves that open.
    """
    data, updates = lowering.view(node, 0), lowering.view(node, 2)
    indices = lowering.constant(node, 1)
    if indices is None:
        raise CannotLowerError("the indices are missing")
    how = node.attributes.get_string("reduction", "none")
    if how != "none":
        raise CannotLowerError(f"reduction {how!r}; only 'none' has kernels")
    depth = indices.shape[-1]
    picked, inner = data.shape[:depth], data.shape[depth:]
    flat = indices.reshape(-1, depth).astype(np.int64)
    inside = np.moveaxis(np.where(flat < 0, flat + picked, flat), -1, 0)
    places = np.asarray(np.ravel_multi_index(tuple(inside), picked))
    rows: np.ndarray = np.arange(math.prod(picked))
    rows[places] = len(rows) + np.arange(len(places))
    if len(places) == len(rows) and (rows == len(rows) + np.arange(len(rows))).all():
        return [lowering.reshaped(updates, data.shape)]  # all of it, in order
    wide = math.prod(inner)
    parts = [lowering.reshaped(data, (len(rows), wide)), lowering.reshaped(updates, (len(places), wide))]
    runs = _runs(rows)
    chosen = _copied if len(runs) <= _RUNS else _gathered
    return [lowering.reshaped(chosen(lowering, parts, rows), data.shape)]


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """(first, length) of neighbours in the data with the updates behind it; none reaches from one into the other."""
    ends = np.flatnonzero((np.diff(rows) != 1) | (rows[1:] == len(rows))) + 1
    edges = [0, *ends.tolist(), len(rows)]
    return [(int(rows[start]), end - start) for start, end in itertools.pairwise(edges) if end > start]


def _copied(lowering: Lowering, parts: list[View], rows: np.ndarray) -> View:
    """As Concat does it; ``fusion`` lets producers write there, where they can."""
    y = lowering.new(parts[0].shape, parts[0].dtype)
    start = 0
    for first, length in _runs(rows):
        source, at = (parts[0], first) if first < len(rows) else (parts[1], first - len(rows))
        part = sliced(source, 0, at, length)
        target = sliced(y, 0, start, length)
        lowering.emit(Pointwise(name=f"{lowering.name} copy", y=target, inputs=(part,), expr=SAME))
        start += length
    return y


def _gathered(lowering: Lowering, parts: list[View], rows: np.ndarray) -> View:
    """Both behind one another, and from there by an index."""
    data, updates = parts
    if data.dtype not in ("fp32", "fp16", "bf16"):
        raise CannotLowerError(f"elements of {data.dtype} at scattered places; only floats are gathered")
    both = lowering.new((data.shape[0] + updates.shape[0], data.shape[1]), data.dtype)
    for start, part in ((0, data), (data.shape[0], updates)):
        target = sliced(both, 0, start, part.shape[0])
        lowering.emit(Pointwise(name=f"{lowering.name} copy", y=target, inputs=(part,), expr=SAME))
    y = lowering.new((1, *data.shape), data.dtype)
    where = lowering.weight(rows.astype(np.int32), f"{lowering.name} index", "int32")
    lowering.emit(GatherRows(name=lowering.name, y=y, x=lowering.reshaped(both, (1, *both.shape)), index=where))
    return lowering.reshaped(y, data.shape)
