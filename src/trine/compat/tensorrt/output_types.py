"""Other element types for a network's outputs: a Cast behind each, in the ONNX model that is built from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from trine.compat.tensorrt.enums import DataType
from trine.compat.tensorrt.foundation import to_trine

__all__ = ["with_output_types"]


def with_output_types(source: Any, wanted: Mapping[str, DataType]) -> bytes:
    """The bytes of an ONNX model (given as bytes or a path) whose outputs named in ``wanted`` have those types."""
    model = onnx.load(str(source)) if isinstance(source, Path) else onnx.load_from_string(bytes(source))
    graph = model.graph
    for output in graph.output:
        dtype = wanted.get(output.name)
        if dtype is None:
            continue
        number = to_trine(dtype).onnx
        if output.type.tensor_type.elem_type == number:
            continue
        inner = f"{output.name}_before_cast"
        for node in graph.node:
            node.output[:] = [inner if name == output.name else name for name in node.output]
            node.input[:] = [inner if name == output.name else name for name in node.input]
        graph.node.append(onnx.helper.make_node("Cast", [inner], [output.name], name=f"{output.name}_cast", to=number))
        output.type.tensor_type.elem_type = number
    data: bytes = model.SerializeToString()
    return data
