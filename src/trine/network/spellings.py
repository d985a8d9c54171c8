"""How an ONNX node is said with a network's ``add_*`` methods; what is not here is said with ``add_node``.

Each spelling returns the call, without ``network.``, and the properties to set on the layer; or None where the node
does something that the layer cannot say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from trine.network.operations import ActivationType, ElementWiseOperation
from trine.network.pointwise import ACTIVATIONS, ELEMENTWISE, UNARY
from trine.network.reductions import REDUCTIONS

__all__ = ["SPELLINGS", "Said", "Writing"]

Said = tuple[str, Mapping[str, Any]]


class Writing(Protocol):
    """What a spelling asks of the program that is being written."""

    def tensor(self, value: ir.Value | None) -> str:
        """The expression for a tensor."""

    def array(self, value: ir.Value) -> str:
        """The expression for a constant's array."""

    def numbers(self, value: ir.Value | None) -> np.ndarray[Any, Any] | None:
        """A constant's elements; None for what is no constant."""


def _attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _shape(w: Writing, value: ir.Value | None) -> tuple[int, ...] | None:
    numbers = w.numbers(value)
    return None if numbers is None else numbers.shape


def _window(node: ir.Node) -> dict[str, Any] | None:
    """Stride and padding; None for what no layer has."""
    if _attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    settings: dict[str, Any] = {}
    strides, pads = _attribute(node, "strides"), _attribute(node, "pads")
    if strides and set(strides) != {1}:
        settings["stride_nd"] = tuple(strides)
    if pads and any(pads):
        half = len(pads) // 2
        if pads[:half] == pads[half:]:
            settings["padding_nd"] = tuple(pads[:half])
        else:
            settings["pre_padding"], settings["post_padding"] = tuple(pads[:half]), tuple(pads[half:])
    return settings


def _convolution(w: Writing, node: ir.Node) -> Said | None:
    kernel, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    shape, settings = _shape(w, kernel), _window(node)
    if shape is None or kernel is None or settings is None or (bias is not None and w.numbers(bias) is None):
        return None
    transposed = node.op_type == "ConvTranspose"
    if transposed and (any(_attribute(node, "output_padding", ())) or "output_shape" in node.attributes):
        return None
    groups = _attribute(node, "group", 1)
    dilations = _attribute(node, "dilations")
    if dilations and set(dilations) != {1}:
        settings["dilation_nd"] = tuple(dilations)
    if groups != 1:
        settings["num_groups"] = groups
    method = "add_deconvolution_nd" if transposed else "add_convolution_nd"
    maps = shape[1] * groups if transposed else shape[0]
    end = "" if bias is None else f", {w.array(bias)}"
    return f"{method}({w.tensor(node.inputs[0])}, {maps}, {tuple(shape[2:])}, {w.array(kernel)}{end})", settings


def _pooling(w: Writing, node: ir.Node) -> Said | None:
    settings = _window(node)
    dilations = _attribute(node, "dilations")
    if settings is None or len(node.outputs) > 1 or (dilations and set(dilations) != {1}):
        return None
    if _attribute(node, "ceil_mode", 0):
        settings["padding_mode"] = "EXPLICIT_ROUND_UP"
    if node.op_type == "AveragePool" and _attribute(node, "count_include_pad", 0):
        settings["average_count_excludes_padding"] = False
    kind = "MAX" if node.op_type == "MaxPool" else "AVERAGE"
    window = tuple(_attribute(node, "kernel_shape"))
    return f'add_pooling_nd({w.tensor(node.inputs[0])}, "{kind}", {window})', settings


def _fully_connected(w: Writing, node: ir.Node) -> Said | None:
    kernel, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    shape = _shape(w, kernel)
    plain = _attribute(node, "alpha", 1.0) == 1.0 == _attribute(node, "beta", 1.0) and not _attribute(node, "transA", 0)
    if not plain or not _attribute(node, "transB", 0) or shape is None or kernel is None:
        return None
    if bias is not None and _shape(w, bias) != shape[:1]:
        return None
    end = "" if bias is None else f", {w.array(bias)}"
    return f"add_fully_connected({w.tensor(node.inputs[0])}, {shape[0]}, {w.array(kernel)}{end})", {}


def _activation(kind: ActivationType) -> Callable[[Writing, ir.Node], Said | None]:
    names = ACTIVATIONS[kind][1]

    def say(w: Writing, node: ir.Node) -> Said | None:
        settings = {}
        for own, onnx in zip(("alpha", "beta"), names, strict=False):
            if onnx in node.attributes:
                settings[own] = _attribute(node, onnx)
        return f'add_activation({w.tensor(node.inputs[0])}, "{kind.name}")', settings

    return say


def _gelu(w: Writing, node: ir.Node) -> Said | None:
    kind = "GELU_TANH" if _attribute(node, "approximate", "none") == "tanh" else "GELU_ERF"
    return f'add_activation({w.tensor(node.inputs[0])}, "{kind}")', {}


def _clip(w: Writing, node: ir.Node) -> Said | None:
    settings = {}
    for own, value in zip(("alpha", "beta"), node.inputs[1:], strict=False):
        if value is None:
            continue
        limit = w.numbers(value)
        if limit is None:
            return None
        settings[own] = float(limit)
    return f'add_activation({w.tensor(node.inputs[0])}, "CLIP")', settings


def _elementwise(kind: ElementWiseOperation) -> Callable[[Writing, ir.Node], Said | None]:
    def say(w: Writing, node: ir.Node) -> Said | None:
        if len(node.inputs) != 2:
            return None
        return f'add_elementwise({w.tensor(node.inputs[0])}, {w.tensor(node.inputs[1])}, "{kind.name}")', {}

    return say


def _unary(name: str) -> Callable[[Writing, ir.Node], Said | None]:
    return lambda w, node: None if node.attributes else (f'add_unary({w.tensor(node.inputs[0])}, "{name}")', {})


def _reduce(name: str) -> Callable[[Writing, ir.Node], Said | None]:
    def say(w: Writing, node: ir.Node) -> Said | None:
        axes = w.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or not axes.size:
            return None
        keep = bool(_attribute(node, "keepdims", 1))
        return f'add_reduce({w.tensor(node.inputs[0])}, "{name}", {tuple(axes.tolist())}, {keep})', {}

    return say


def _softmax(w: Writing, node: ir.Node) -> Said | None:
    return f"add_softmax({w.tensor(node.inputs[0])})", {"axes": (_attribute(node, "axis", -1),)}


def _global_average(w: Writing, node: ir.Node) -> Said | None:
    rank = _rank(node.inputs[0])
    return (rank and (f'add_reduce({w.tensor(node.inputs[0])}, "AVG", {tuple(range(2, rank))}, True)', {})) or None


def _matmul(w: Writing, node: ir.Node) -> Said | None:
    if min((_rank(value) or 0) for value in node.inputs) < 2:
        return None
    left, right = (w.tensor(value) for value in node.inputs)
    return f'add_matrix_multiply({left}, "NONE", {right}, "NONE")', {}


def _concat(w: Writing, node: ir.Node) -> Said | None:
    inputs = ", ".join(w.tensor(value) for value in node.inputs)
    return f"add_concatenation([{inputs}])", {"axis": _attribute(node, "axis")}


def _transpose(w: Writing, node: ir.Node) -> Said | None:
    order = _attribute(node, "perm")
    return None if order is None else (f"add_shuffle({w.tensor(node.inputs[0])})", {"first_transpose": tuple(order)})


def _reshape(w: Writing, node: ir.Node) -> Said | None:
    target = w.numbers(node.inputs[1])
    if target is None or _attribute(node, "allowzero", 0):
        return None
    return f"add_shuffle({w.tensor(node.inputs[0])})", {"reshape_dims": tuple(target.tolist())}


def _flatten(w: Writing, node: ir.Node) -> Said | None:
    if _attribute(node, "axis", 1) != 1 or (_rank(node.inputs[0]) or 0) < 2:
        return None
    return f"add_shuffle({w.tensor(node.inputs[0])})", {"reshape_dims": (0, -1)}


def _axes(method: str) -> Callable[[Writing, ir.Node], Said | None]:
    def say(w: Writing, node: ir.Node) -> Said | None:
        axes = w.numbers(node.inputs[1]) if len(node.inputs) > 1 else None
        return None if axes is None else (f"{method}({w.tensor(node.inputs[0])}, {tuple(axes.tolist())})", {})

    return say


def _gather(w: Writing, node: ir.Node) -> Said | None:
    data, indices = (w.tensor(value) for value in node.inputs)
    return f"add_gather({data}, {indices}, {_attribute(node, 'axis', 0)})", {}


def _plain(method: str) -> Callable[[Writing, ir.Node], Said | None]:
    def say(w: Writing, node: ir.Node) -> Said | None:
        return None if node.attributes else (f"{method}({', '.join(w.tensor(v) for v in node.inputs)})", {})

    return say


SPELLINGS: dict[str, Callable[[Writing, ir.Node], Said | None]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "MaxPool": _pooling,
    "AveragePool": _pooling,
    "GlobalAveragePool": _global_average,
    "Gemm": _fully_connected,
    "MatMul": _matmul,
    "Gelu": _gelu,
    "Clip": _clip,
    "Softmax": _softmax,
    "Concat": _concat,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _axes("add_squeeze"),
    "Unsqueeze": _axes("add_unsqueeze"),
    "Gather": _gather,
    "Identity": _plain("add_identity"),
    "Shape": _plain("add_shape"),
    "Where": _plain("add_select"),
    "PRelu": _plain("add_parametric_relu"),
}
_SPELT_OUT = ("CLIP", "SOFTPLUS", "SCALED_TANH", "GELU_ERF", "GELU_TANH")
SPELLINGS.update({ACTIVATIONS[k][0]: _activation(k) for k in ActivationType if k.name not in _SPELT_OUT})
SPELLINGS["Softplus"] = _activation(ActivationType.SOFTPLUS)
SPELLINGS.update({ELEMENTWISE[k]: _elementwise(k) for k in ElementWiseOperation if k.name != "FLOOR_DIV"})
SPELLINGS.update({op_type: _unary(kind.name) for kind, op_type in UNARY.items()})
SPELLINGS.update({op_type: _reduce(kind.name) for kind, op_type in REDUCTIONS.items()})
