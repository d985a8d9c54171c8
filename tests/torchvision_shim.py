"""Lets torchvision be imported beside a CPU-only torch, whose wheels on PyPI do not match its operators.

torchvision's ``_meta_registrations`` looks up ``torchvision::nms`` and ``qnms`` when imported; its binary, which
defines them, does not load here. Declaring their schemas is enough for the classifiers.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import torch

__all__ = ["define_missing_operators"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: list[torch.library.Library] = []


def define_missing_operators() -> None:
    """Call it before the first ``import torchvision``. Does nothing beside a torch that torchvision's binary fits."""
    unmatched = sys.platform == "linux" and torch.version.cuda is None and "+" not in version("torchvision")
    if not unmatched or _library or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _library.append(library)  # the definitions live as long as this object


define_missing_operators()
