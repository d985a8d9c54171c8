"""TensorRT's own account of what it built: the layers left after its fusions, read off the builder's log.

The engine inspector says the same, but only of a deserialised plan, and that takes a GPU. With detailed profiling
verbosity the builder ends its log with the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["layers_from_log"]

_LIST = "Layers:"
_FIELD = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[(?P<inputs>.*?)\], Constants: \[.*?\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId: .*?, Metadata: ?(?P<metadata>.*)$"
)
_TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[^\]]*)\].*?Datatype: (?P<dtype>[^,}]*)")
_NODE = re.compile(r"\[ONNX Layer: (?P<node>[^\]]*)\]")


def layers_from_log(messages: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """Layers in order; () where the log has no list. Each: name, kind, tactic, inputs and outputs (lists of
    "name dtype 1x3"; -1 for a dynamic dimension), nodes (the ONNX nodes that TensorRT says it comes from)."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if not message.startswith(_LIST):
            continue
        found = []  # a builder that lists twice means the last one
        for line in message.splitlines()[1:]:
            if line.startswith("I/O Tensors:"):
                break
            match = _FIELD.match(line.strip())
            if match:
                found.append(
                    {
                        "name": match["name"],
                        "kind": match["kind"],
                        "tactic": match["tactic"],
                        "inputs": _tensors(match["inputs"]),
                        "outputs": _tensors(match["outputs"]),
                        "nodes": _NODE.findall(match["metadata"]),
                    }
                )
    return tuple(found)


def _tensors(text: str) -> list[str]:
    return [
        f"{match['name']} {match['dtype'].strip()} {match['dims'].replace(',', 'x') or 'scalar'}"
        for match in _TENSOR.finditer(text)
    ]
