"""Operators as older opsets spell them, for layers that are added to a model which has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from trine.errors import ConfigError
from trine.network.shape_values import contents_of

__all__ = ["spelled"]

# The opset from which on axes are an input; before, they are an attribute.
_AXES_ARE_AN_INPUT = {
    **dict.fromkeys(("ReduceSum", "Squeeze", "Unsqueeze"), 13),
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"), 18
    ),
    **dict.fromkeys(("ReduceProd", "ReduceSumSquare"), 18),
}
_ALONG_ONE_AXIS = 13  # before, softmax took all dimensions from its axis on as one


def spelled(
    op_type: str, inputs: list[ir.Value | None], attributes: Mapping[str, Any], opset: int
) -> tuple[list[ir.Value | None], dict[str, Any]]:
    """Inputs and attributes as ``opset`` has them. Raises ConfigError where it computes something else."""
    given = dict(attributes)
    if opset < _AXES_ARE_AN_INPUT.get(op_type, 0) and len(inputs) == 2 and inputs[1] is not None:
        axes = contents_of(inputs[1])
        if axes is not None and all(isinstance(axis, int) for axis in axes):
            given.pop("noop_with_empty_axes", None)
            return inputs[:1], {**given, "axes": list(axes)}
    if op_type in ("Softmax", "LogSoftmax") and opset < _ALONG_ONE_AXIS and inputs[0] is not None:
        axis, shape = given.get("axis", -1), inputs[0].shape
        if axis != -1 and (shape is None or axis != len(shape) - 1):
            raise ConfigError(
                f"{op_type} along axis {axis}, not known to be the last one, is another operator in opset {opset}: "
                f"give the layer a model of opset {_ALONG_ONE_AXIS} or newer, or shuffle that axis to the end"
            )
        if shape is not None:
            given["axis"] = len(shape) - 1
    return inputs, given
