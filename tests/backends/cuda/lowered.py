"""What the tests of lowering and fusion share: groups run in NumPy on a planned arena, beside ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from pass_checks import feed_for, run

from trine.backends.cuda.groups import Group
from trine.backends.cuda.lowering import Lowered, lower
from trine.backends.cuda.memory_plan import plan_memory
from trine.backends.cuda.reference import run_groups
from trine.builder.freeze import freeze, tensor_infos
from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.passes.pipeline import run_passes

__all__ = ["agrees", "answers", "error", "kinds", "lowered"]

ROWS = 3
Infos = tuple[TensorInfo, ...]


def portable(proto: onnx.ModelProto, passes: bool = False) -> tuple[PortableGraph, Infos, tuple[np.ndarray, ...]]:
    """The graph as the builder freezes it, its inputs, and ONNX Runtime's answers for ROWS rows of ``feed_for``."""
    want = tuple(run(proto, feed_for(proto, dynamic=ROWS)))
    model = ir.from_proto(proto)
    if passes:
        run_passes(model)
    for value, array in zip(model.graph.outputs, want, strict=True):
        value.shape = ir.Shape(["batch", *array.shape[1:]] if array.ndim else [])
    inputs, _ = tensor_infos(model)
    return freeze(model), inputs, want


def outputs_of(proto: onnx.ModelProto, want: Sequence[np.ndarray]) -> Infos:
    """What the manifest says of the outputs: as many rows as the inputs have, where they have rows."""
    names = [value.name for value in proto.graph.output]
    return tuple(
        TensorInfo(
            name,
            DataType.from_numpy(array.dtype),
            ("batch", *array.shape[1:]) if array.ndim and array.shape[0] == ROWS else array.shape,
        )
        for name, array in zip(names, want, strict=True)
    )


def lowered(proto: onnx.ModelProto, *, precision: str = "fp32", passes: bool = False, fused: bool = True) -> Lowered:
    """The model for ROWS rows."""
    graph, inputs, want = portable(proto, passes)
    return lower(graph, ROWS, inputs, outputs_of(proto, want), precision, fused=fused)


def answers(low: Lowered, feed: Sequence[np.ndarray]) -> list[np.ndarray[Any, Any]]:
    """All groups in NumPy, on a poisoned arena."""
    made = run_groups(low.groups, plan_memory(low.groups), dict(zip(low.inputs, feed, strict=True)))
    return [made[buffer] for buffer in low.outputs]


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Relative error as trine.verify measures it; NaN and infinities must be at the same places."""
    got, want = got.reshape(-1).astype(np.float64), want.reshape(-1).astype(np.float64)
    assert got.shape == want.shape
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    if not finite.any():
        return 0.0
    largest = np.abs(want[finite]).max()
    difference = np.abs(got - want)[finite].max()
    return float(difference / largest) if largest else float(difference)


def agrees(
    proto: onnx.ModelProto, *, precision: str = "fp32", passes: bool = False, tolerance: float = 2e-6
) -> Lowered:
    """Lower with and without fusion, and see that both give ONNX Runtime's answers. Returns the fused groups.

    tolerance: fp32 sums in another order; the graphs of the tests are a few operators deep.
    """
    feed = list(feed_for(proto, dynamic=ROWS).values())
    graph, inputs, want = portable(proto, passes)
    for fused in (False, True):
        low = lower(graph, ROWS, inputs, outputs_of(proto, want), precision, fused=fused)
        for got, expected in zip(answers(low, feed), want, strict=True):
            assert error(got, expected) <= tolerance, f"fused={fused}"
    return low


def kinds(groups: Sequence[Group] | Lowered) -> dict[str, int]:
    """How many groups of each kind, the copies of inputs and outputs left out."""
    given = groups.groups if isinstance(groups, Lowered) else groups
    inner = [group for group in given if not getattr(group, "by_rows", False)]
    return dict(Counter(type(group).__name__ for group in inner))
