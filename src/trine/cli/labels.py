"""Names of classes, and the likeliest of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trine.errors import ConfigError

__all__ = ["Ranked", "is_classification", "load_labels", "top"]

MAX_LABEL_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Ranked:
    """One class: its index, its name ("" without labels), its probability, the engine's own number for it."""

    index: int
    label: str
    probability: float
    score: float


def load_labels(path: Path) -> list[str]:
    """Class names: a text file with one a line, a JSON list, or a JSON object {"0": "tench", …}. Raises ConfigError."""
    if path.stat().st_size > MAX_LABEL_BYTES:
        raise ConfigError(f"{path}: {path.stat().st_size} bytes are too many for labels; give one name a line")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not UTF-8 text; give a text file with one name a line") from err
    if path.suffix.lower() != ".json":
        return content.rstrip().splitlines()
    try:
        found = json.loads(content)
        if isinstance(found, dict):
            found = [found[str(index)] for index in range(len(found))]
    except (ValueError, KeyError, RecursionError) as err:
        raise ConfigError(f"{path}: expected a JSON list of names, or an object with keys 0, 1, …; {err}") from err
    if not isinstance(found, list):
        raise ConfigError(f"{path}: expected a JSON list of names, got {type(found).__name__}")
    # Keras and torchvision write ["n01440764", "tench"]: the last part is for people.
    return [str(entry[-1]) if isinstance(entry, list) and entry else str(entry) for entry in found]


def is_classification(output: np.ndarray[Any, Any]) -> bool:
    """Whether an output looks like scores of classes: floats, N rows of at least two."""
    floating = output.dtype.kind == "f" or output.dtype.name == "bfloat16"
    return floating and output.ndim == 2 and output.shape[1] >= 2


def top(scores: np.ndarray[Any, Any], count: int, labels: Sequence[str] | None) -> list[Ranked]:
    """The ``count`` likeliest classes of one row. Scores that are no probabilities yet go through softmax.

    Raises ConfigError when there are fewer labels than classes.
    """
    if labels is not None and len(labels) < scores.size:
        raise ConfigError(f"there are {len(labels)} labels for {scores.size} classes; give a label for each")
    values = scores.astype(np.float64)
    already = bool((values >= 0).all()) and abs(float(values.sum()) - 1.0) < 1e-2
    probabilities = values if already else _softmax(values)
    # Stable, so that equal scores keep the order of their classes; NaN goes last.
    order = np.argsort(-values, kind="stable")[:count]
    return [
        Ranked(int(i), labels[i] if labels is not None else "", float(probabilities[i]), float(values[i]))
        for i in order
    ]


def _softmax(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        exponents = np.exp(values - np.nanmax(values)) if not np.isnan(values).all() else values
        result: np.ndarray[Any, Any] = exponents / np.nansum(exponents)
    return result
