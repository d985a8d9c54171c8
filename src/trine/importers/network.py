"""Import a network that was written layer by layer: its ONNX bytes, by the way that ONNX files take."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from trine.importers.imported_model import ImportedModel
from trine.importers.onnx_file import import_onnx
from trine.network.network import Network

__all__ = ["import_network"]


def import_network(
    network: Network,
    example_inputs: Any = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> ImportedModel:
    """The network as it is now; what is added to it later changes nothing here. Judged as an ONNX file is.

    Raises ConfigError for a network that is not finished, and what ``import_onnx`` raises.
    """
    source = f"the network {network.name!r}"
    imported = import_onnx(network.to_onnx(), example_inputs, shapes=shapes, seed=seed, what=source)
    return dataclasses.replace(imported, name=network.name)
