"""What every importer hands to the builder, so that nothing after it knows where a model came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Arrays", "ImportedModel"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class ImportedModel:
    """A model in the one IR, with its source still callable as the judge of every answer.

    ``reference`` maps the inputs by name to the outputs by name, computed by the source itself (PyTorch eager,
    or the unoptimised ONNX file). It is what verified builds compare with.
    """

    model: ir.Model
    reference: Callable[[Mapping[str, np.ndarray]], Arrays]
    name: str
    source: str  # one line for people: "torch.nn.Module torchvision.models.resnet.ResNet", "model.onnx"
    example_inputs: Arrays
    input_structure: Any = None  # JSON, see trine.structure
    output_structure: Any = None
    versions: Mapping[str, str] = field(default_factory=dict)
