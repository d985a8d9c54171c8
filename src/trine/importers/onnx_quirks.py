"""Operators that ONNX Runtime's CPU kernels are known to compute otherwise than ONNX defines them.

A model that uses one is judged by ONNX's reference evaluator instead, so that a build cannot call a wrong answer right
because two wrong answers agree. Each entry was seen with ONNX Runtime 1.32 in ONNX's own backend tests
(``benchmarks/onnx_backend_suite.py``), whose results say when an entry can go.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx.helper

from trine.importers.onnx_proto import all_nodes

__all__ = ["onnxruntime_quirks"]


def onnxruntime_quirks(model: onnx.ModelProto) -> list[str]:
    """Why ONNX Runtime cannot be the judge of this model; empty when it can."""
    found = []
    for node in all_nodes(model):
        quirk = _QUIRKS.get(node.op_type)
        reason = quirk(node) if quirk is not None and node.domain in ("", "ai.onnx") else None
        if reason is not None:
            found.append(f"node {node.name or node.output[0]!r} ({node.op_type}): {reason}")
    return found


def _attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    for attribute in node.attribute:
        if attribute.name == name:
            value: object = onnx.helper.get_attribute_value(attribute)
            return value
    return default


def _given(node: onnx.NodeProto, index: int) -> bool:
    return len(node.input) > index and node.input[index] != ""


def _resize(node: onnx.NodeProto) -> str | None:
    # The ratio is taken of the rounded output size, where ONNX takes input size * scale as it is.
    if _attribute(node, "coordinate_transformation_mode", b"") == b"align_corners" and _given(node, 2):
        return "align_corners with scales uses the rounded output size"
    return None


def _max_unpool(node: onnx.NodeProto) -> str | None:
    return "the indices are not converted to the given output_shape" if _given(node, 2) else None


def _attention(node: onnx.NodeProto) -> str | None:
    if len(node.output) > 3 and _attribute(node, "is_causal", 0) and _given(node, 4):
        return "qk_matmul_output with past keys is masked at other places"
    return None


_QUIRKS: dict[str, Callable[[onnx.NodeProto], str | None]] = {
    "Attention": _attention,
    "MaxUnpool": _max_unpool,
    "Resize": _resize,
}
