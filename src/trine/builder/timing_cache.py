"""A file of timings, so that building the same graph again need not measure again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trine.engine.atomic_write import write_atomically
from trine.engine.portable_graph import PortableGraph
from trine.errors import ConfigError
from trine.profile import OptimizationProfile

__all__ = ["TimingCache", "graph_signature"]

_VERSION = 1
_MAX_BYTES = 64 << 20


def graph_signature(graph: PortableGraph) -> str:
    """A hash of the operators and of every weight's name, dtype and shape; values do not change timings."""
    digest = hashlib.sha256(graph.model)
    for weight in graph.weights:
        digest.update(f"{weight.name}\0{weight.dtype.value}\0{weight.shape}\n".encode())
    return digest.hexdigest()


def timing_key(
    graph_hash: str,
    profile: OptimizationProfile,
    candidate: str,
    *,
    threads: int,
    device: str,
    versions: Mapping[str, str],
) -> str:
    """The key of one measurement. Everything that can change the answer is in it."""
    parts = {
        "graph": graph_hash,
        "opt": {name: list(shape) for name, shape in sorted(profile.shapes("opt").items())},
        "candidate": candidate,
        "threads": threads,
        "device": device,
        "versions": dict(sorted(versions.items())),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class TimingCache:
    """Latencies in milliseconds by key. Without a path it remembers for one build only."""

    def __init__(self, path: str | Path | None = None) -> None:
        """Read ``path`` if it exists. Raises ConfigError when it is some other file."""
        self._path = None if path is None else Path(path).expanduser()
        self._timings: dict[str, float] = {}
        if self._path is not None and self._path.exists():
            self._timings = self._read(self._path)
        self._new: dict[str, float] = {}

    def get(self, key: str) -> float | None:
        """The remembered latency_ms, or None."""
        return self._timings.get(key)

    def put(self, key: str, latency_ms: float) -> None:
        """Remember a measurement; ``save`` writes it down."""
        self._timings[key] = self._new[key] = latency_ms

    def save(self) -> None:
        """Write new measurements, with those that other processes wrote meanwhile; whole or not at all.

        Raises ConfigError when the file cannot be written.
        """
        if self._path is None or not self._new:
            return
        try:
            merged = self._read(self._path) if self._path.exists() else {}
            merged.update(self._new)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = {"trine_timing_cache": _VERSION, "timings_ms": merged}
            write_atomically(self._path, [json.dumps(content, indent=0, sort_keys=True).encode()])
        except OSError as err:
            raise ConfigError(f"timing_cache: {self._path} cannot be written: {err.strerror or err}") from err
        self._new.clear()

    @staticmethod
    def _read(path: Path) -> dict[str, float]:
        refusal = f"timing_cache: {path} is no timing cache of this version; name another file, or delete it"
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ConfigError(refusal)
            text = path.read_text(encoding="utf-8")
            if not text:
                return {}  # `mktemp` made it
            content: Any = json.loads(text)
        except OSError as err:
            raise ConfigError(f"timing_cache: {path} cannot be read: {err.strerror or err}") from err
        except (ValueError, RecursionError) as err:
            raise ConfigError(refusal) from err
        if not isinstance(content, dict) or content.get("trine_timing_cache") != _VERSION:
            raise ConfigError(refusal)
        timings = content.get("timings_ms")
        if not isinstance(timings, dict) or not all(isinstance(value, int | float) for value in timings.values()):
            raise ConfigError(refusal)
        return {key: float(value) for key, value in timings.items()}
