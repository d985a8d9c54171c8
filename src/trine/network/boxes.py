"""Non-maximum suppression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.network.layer import Layer
from trine.network.operations import BoundingBoxFormat, LayerType
from trine.network.selection import index_type
from trine.network.settings import Setting, choice, optional, whole
from trine.network.writer import Writer

__all__ = ["NMSLayer"]


class NMSLayer(Layer):
    """Of boxes that overlap, for each class, the one with the highest score.

    Inputs: boxes (batch, boxes, 4), or (batch, boxes, 1, 4) for all classes; scores (batch, boxes, classes); the most
    boxes of a class; optionally the overlap above which a box is dropped (0), and the score that it must exceed (0).
    Outputs: rows of batch, class and box, by batch and falling score; and how many rows there are. With
    ``topk_box_limit``, only that many of a batch item's highest scores take part.
    """

    kind = LayerType.NMS
    max_inputs: ClassVar[int] = 5

    bounding_box_format = Setting(choice(BoundingBoxFormat), BoundingBoxFormat.CORNER_PAIRS)
    topk_box_limit = Setting(optional(whole(1)))
    indices_type = Setting(index_type, DataType.INT32)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """NonMaxSuppression, then sorted as TensorRT sorts."""
        boxes, scores, most, overlap, least = inputs + [None] * (5 - len(inputs))
        if w.rank(boxes) == 4 and w.dims(boxes)[2] == 1:
            boxes = w.op("Squeeze", boxes, w.ints([2]))
        if w.rank(boxes) != 3 or w.dims(boxes)[-1] not in (4, None) or w.rank(scores) != 3:
            raise w.error(
                "expected boxes (batch, boxes, 4), the same for all classes, and scores (batch, boxes, classes), got "
                f"{w.dims(boxes)} and {w.dims(scores)}"
            )
        by_class = w.op("Transpose", w.cast(scores, DataType.FLOAT32), perm=[0, 2, 1])
        if self.topk_box_limit is not None:
            by_class = self._limited(w, by_class, self.topk_box_limit)
        zero = w.constant(np.float32(0), "zero")
        found = w.op(
            "NonMaxSuppression",
            w.cast(boxes, DataType.FLOAT32),
            by_class,
            self._scalar(w, w.cast(most, DataType.INT64)),
            zero if overlap is None else self._scalar(w, w.cast(overlap, DataType.FLOAT32)),
            zero if least is None else self._scalar(w, w.cast(least, DataType.FLOAT32)),
            center_point_box=int(self.bounding_box_format is BoundingBoxFormat.CENTER_SIZES),
        )
        count = w.op("Shape", found, start=0, end=1)
        # By falling score first; the second sort keeps that order within a batch item, as TopK keeps equals in order.
        found = self._sorted(w, found, w.op("GatherND", by_class, found), count, largest=True)
        batch = w.op("Gather", found, w.constant(np.int64(0), "first"), axis=1)
        found = self._sorted(w, found, batch, count, largest=False)
        number = w.cast(w.op("Squeeze", count, w.ints([0])), DataType.INT32)
        return [w.cast(found, self.indices_type), number]

    def _scalar(self, w: Writer, value: ir.Value) -> ir.Value:
        return value if w.rank(value) == 0 else w.op("Reshape", value, w.constant(np.array([], np.int64), "scalar"))

    def _sorted(self, w: Writer, rows: ir.Value, by: ir.Value, count: ir.Value, *, largest: bool) -> ir.Value:
        _, order = w.ops("TopK", [by, count], {"largest": int(largest), "sorted": 1, "axis": 0}, outputs=2)
        return w.op("Gather", rows, order, axis=0)

    def _limited(self, w: Writer, scores: ir.Value, limit: int) -> ir.Value:
        """Scores below a batch item's ``limit`` highest become minus infinity, which no threshold lets through."""
        flat = w.op("Flatten", scores, axis=1)
        many = w.op("Min", w.op("Shape", flat, start=1, end=2), w.ints([limit]))
        highest, _ = w.ops("TopK", [flat, many], {"axis": 1}, outputs=2)
        last = w.op("ReduceMin", highest, w.ints([1]), keepdims=1)
        bound = w.op("Unsqueeze", last, w.ints([2]))
        return w.op("Where", w.op("GreaterOrEqual", scores, bound), scores, w.scalar(-math.inf, scores))
