"""GatherND with constant indices, as adaptive pooling to more pixels than there are is exported."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import GatherRows, View
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering

__all__ = ["lower_gather_nd"]


def lower_gather_nd(lowering: Lowering, node: ir.Node) -> list[View]:
    """Rows of what lies below the indexed axes, picked by one number each; the same ones for each of the batch axes."""
    x = lowering.view(node, 0)
    indices = lowering.constant(node, 1)
    if indices is None:
        raise CannotLowerError("the indices are missing")
    if x.dtype not in ("fp32", "fp16", "bf16"):
        raise CannotLowerError(f"elements of {x.dtype}; only floats are gathered")
    batch = node.attributes.get_int("batch_dims", 0)
    depth = indices.shape[-1]
    outer, picked, inner = x.shape[:batch], x.shape[batch : batch + depth], x.shape[batch + depth :]
    flat = indices.reshape(math.prod(outer), -1, depth).astype(np.int64)
    if len(flat) == 0 or not (flat == flat[:1]).all():
        raise CannotLowerError("indices that differ between the batch axes' elements")
    rows = np.ravel_multi_index(np.moveaxis(np.where(flat[0] < 0, flat[0] + picked, flat[0]), -1, 0), picked)
    given = lowering.reshaped(x, (math.prod(outer), math.prod(picked), math.prod(inner)))
    if given.strides[2] != 1:
        given = replace(given, strides=(*given.strides[:2], 1)) if given.shape[2] == 1 else lowering.copied(given)
    y = lowering.new((given.shape[0], len(rows), given.shape[2]), x.dtype)
    where = lowering.weight(rows.astype(np.int32), f"{lowering.name} index", "int32")
    lowering.emit(GatherRows(name=lowering.name, y=y, x=given, index=where))
    return [lowering.reshaped(y, (*indices.shape[:-1], *inner))]
