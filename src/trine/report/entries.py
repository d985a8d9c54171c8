"""What a page can show beside the engine itself: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Answer", "Fact", "Latency", "Photo"]


@dataclass(frozen=True)
class Fact:
    """A number worth large type, as text, and what it is."""

    value: str
    label: str


@dataclass(frozen=True)
class Answer:
    """One class and its probability, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True)
class Photo:
    """A photo and who answered what: ``answers`` maps "trine", and then others, to their classes, likeliest first."""

    name: str
    thumbnail: bytes  # a whole JPEG, PNG or WebP file
    answers: Mapping[str, Sequence[Answer]]
    credit: str = ""


@dataclass(frozen=True)
class Latency:
    """How long ``name`` takes for one call in ``group`` ("batch 1"), in milliseconds."""

    group: str
    name: str
    ms: float
