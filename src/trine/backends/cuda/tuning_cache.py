"""Timings of kernels on a kind of GPU, remembered in a JSON file; for known GPUs one ships with the package."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from trine.errors import ConfigError

__all__ = ["SHIPPED", "TuningCache"]

SHIPPED = Path(__file__).resolve().parent / "timings"


class TuningCache:
    """{group signature: {tactic[configuration]: microseconds, or null where it does not compile}} for one device.

    device: the GPU's name; "" for a build without one, which takes the timings of any GPU of the architecture
    ``target``. ``shipped`` is read, never written. Raises ConfigError for a file that is no timing cache.
    """

    def __init__(self, path: Path | None, device: str, target: str, shipped: Path | None = None) -> None:
        self.path, self.device, self.target = path, device, target
        self._shipped = self._read(shipped)
        self._own = self._read(path)
        self._changed = False

    def timings(self, signature: str) -> dict[str, float | None]:
        """What is known of a group, in microseconds; None for what does not compile. Empty when nothing is known."""
        return {**self._shipped.get(signature, {}), **self._own.get(signature, {})}

    def put(self, signature: str, label: str, latency_us: float | None) -> None:
        """Remember a timing."""
        self._own.setdefault(signature, {})[label] = None if latency_us is None else round(latency_us, 3)
        self._changed = True

    def save(self) -> None:
        """Write the file, merged with what another process may have written since, if there is one to write."""
        if self.path is None or not self._changed:
            return
        merged = self._read(self.path)
        for signature, timings in self._own.items():
            merged.setdefault(signature, {}).update(timings)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, suffix=".part") as file:
            content = {"device": self.device, "target": self.target, "timings": merged}
            json.dump(content, file, sort_keys=True, separators=(",", ":"))
        Path(file.name).replace(self.path)
        self._changed = False

    def _read(self, path: Path | None) -> dict[str, dict[str, float | None]]:
        if path is None or not path.exists():
            return {}
        try:
            content = json.loads(path.read_text())
            timings: dict[str, dict[str, float | None]] = {key: dict(each) for key, each in content["timings"].items()}
            device, target = content["device"], content.get("target", self.target)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
            raise ConfigError(f"timing cache {path}: not readable ({err}); delete it or give another path") from err
        return timings if target == self.target and self.device in ("", device) else {}
