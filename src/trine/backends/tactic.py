"""A tactic: one way to run a graph, or a part of one, with the reasons when it cannot."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Support"]


@dataclass(frozen=True)
class Support:
    """Whether a tactic can run something. True means no reasons against it."""

    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.reasons
