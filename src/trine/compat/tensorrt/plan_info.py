"""What TensorRT's engines know beyond trine's: kept in the engine file's manifest, under build / "tensorrt"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trine.errors import ConfigError
from trine.profile import ShapeRange

if TYPE_CHECKING:
    from trine.engine.engine import Engine

__all__ = ["PlanInfo"]

_KEY = "tensorrt"
_MOST_PROFILES = 1000


@dataclass(frozen=True)
class PlanInfo:
    """``profiles`` are as the program gave them, one after the other; the engine's own range covers all of them."""

    implicit: bool = False
    max_batch_size: int = 1
    profiles: tuple[Mapping[str, ShapeRange], ...] = ()
    refittable: bool = False
    verbosity: str = "LAYER_NAMES_ONLY"
    capability: str = "STANDARD"

    def put(self, engine: Engine) -> None:
        """Write it into the engine's manifest, so that it is saved with it."""
        fields = {
            **dataclasses.asdict(dataclasses.replace(self, profiles=())),
            "profiles": [
                {name: [list(r.min), list(r.opt), list(r.max)] for name, r in ranges.items()}
                for ranges in self.profiles
            ],
        }
        engine.manifest = dataclasses.replace(engine.manifest, build={**engine.manifest.build, _KEY: fields})

    @classmethod
    def of(cls, engine: Engine) -> PlanInfo:
        """What ``put`` wrote; for an engine that was built otherwise, what its profile says.

        What is damaged there is as if it were not: it decides nothing but what the program is told.
        """
        fields = engine.manifest.build.get(_KEY)
        plain = cls(profiles=(dict(engine.profile.ranges),))
        if not isinstance(fields, Mapping):
            return plain
        try:
            return cls(
                implicit=fields["implicit"] is True,
                max_batch_size=int(fields["max_batch_size"]),
                profiles=_profiles(fields["profiles"]) or plain.profiles,
                refittable=fields["refittable"] is True,
                verbosity=str(fields["verbosity"]),
                capability=str(fields["capability"]),
            )
        except (KeyError, TypeError, ValueError):
            return plain


def _profiles(listed: Any) -> tuple[Mapping[str, ShapeRange], ...]:
    if not isinstance(listed, list) or len(listed) > _MOST_PROFILES:
        raise ConfigError("profiles: expected a list")
    found = []
    for ranges in listed:
        found.append(
            {
                str(name): ShapeRange(*(tuple(int(dim) for dim in shape) for shape in triple))
                for name, triple in ranges.items()
            }
        )
    return tuple(found)
