"""What an engine says of itself: names, dtypes, shapes, where it came from, and how it was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trine.dtypes import DataType
from trine.profile import OptimizationProfile

__all__ = ["Manifest", "TensorInfo"]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: its name, element type, and shape with a symbol (str) for each dynamic dimension."""

    name: str
    dtype: DataType
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Manifest:
    """The JSON part of an engine file that people read. Plain data; nothing in it is ever executed."""

    name: str
    source: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    profile: OptimizationProfile
    precision: str = "fp32"
    input_structure: Any = None  # JSON made by trine.structure; None: the inputs in order
    output_structure: Any = None  # JSON made by trine.structure; None: one tensor, or a tuple in order
    created: str = ""  # UTC, ISO 8601
    versions: Mapping[str, str] = field(default_factory=dict)  # package -> version at build time
    evidence: Mapping[str, Any] | None = None  # trine.verify Report.to_json(); None: verify=False
    build: Mapping[str, Any] = field(default_factory=dict)  # stages, passes, tactics and their reasons
