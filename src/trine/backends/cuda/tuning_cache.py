"""Timings of kernels on a kind of GPU, remembered in a JSON file; for known GPUs one ships with the package."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from trine.errors import ConfigError

__all__ = ["SHIPPED", "TuningCache"]

_Timings = dict[str, dict[str, float | None]]
_Devices = dict[str, dict[str, _Timings]]  # by target, then by device

SHIPPED = Path(__file__).resolve().parent / "timings"


class TuningCache:
    """{group signature: {tactic[configuration]: microseconds, or null where it does not compile}} for one device.

    A file has those of several: {"timings": {target: {device: {signature: ...}}}}. device: the GPU's name; "" for a
    build without one, which takes the timings of any GPU of the architecture ``target``. ``shipped``: a file, or a
    folder of them; read, never written. Raises ConfigError for a file that is no timing cache.
    """

    def __init__(self, path: Path | None, device: str, target: str, shipped: Path | None = None) -> None:
        self.path, self.device, self.target = path, device, target
        self._sources = [_read(path), _read(shipped)]
        self._own, self._shipped = (self._usable(each) for each in self._sources)
        self._new: _Timings = {}

    def timings(self, signature: str) -> dict[str, float | None]:
        """What is known of a group, in microseconds; None for what does not compile. Empty when nothing is known."""
        return {**self._shipped.get(signature, {}), **self._own.get(signature, {})}

    def elsewhere(self, signature: str) -> dict[str, float]:
        """Microseconds of a group on the nearest other architecture for which some are known: no measure of the
        target's, but they say which kernels suit the work. Empty when none are."""
        targets = {target for source in self._sources for target in source} - {self.target}
        for target in sorted(targets, key=lambda each: (abs(_number(each) - _number(self.target)), each)):
            found: dict[str, float] = {}
            for source in self._sources:
                for timings in source.get(target, {}).values():
                    for label, latency in timings.get(signature, {}).items():
                        if latency is not None:
                            found.setdefault(label, latency)
            if found:
                return found
        return {}

    def put(self, signature: str, label: str, latency_us: float | None) -> None:
        """Remember a timing."""
        latency = None if latency_us is None else round(latency_us, 3)
        for timings in (self._own, self._new):
            timings.setdefault(signature, {})[label] = latency

    def save(self) -> None:
        """Write the file, merged with what another process may have written since, if there is one to write."""
        if self.path is None or not self._new:
            return
        everything = _read(self.path)
        merged = everything.setdefault(self.target, {}).setdefault(self.device, {})
        for signature, timings in self._new.items():
            merged.setdefault(signature, {}).update(timings)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, suffix=".part") as file:
            json.dump({"timings": everything}, file, sort_keys=True, separators=(",", ":"))
        Path(file.name).replace(self.path)
        self._new = {}

    def _usable(self, everything: _Devices) -> _Timings:
        found: _Timings = {}
        for device, timings in everything.get(self.target, {}).items():
            if self.device in ("", device):
                for signature, each in timings.items():
                    found.setdefault(signature, {}).update(each)
        return found


def _number(target: str) -> int:
    """90 of sm_90; a file may name anything."""
    digits = "".join(filter(str.isdigit, target))
    return int(digits) if digits else 0


def _read(path: Path | None) -> _Devices:
    if path is None or not path.exists():
        return {}
    if path.is_dir():  # a file for each architecture
        return {target: devices for file in sorted(path.glob("*.json")) for target, devices in _read(file).items()}
    try:
        return {
            target: {
                device: {signature: dict(each) for signature, each in timings.items()}
                for device, timings in devices.items()
            }
            for target, devices in json.loads(path.read_text())["timings"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(f"timing cache {path}: not readable ({err}); delete it or give another path") from err
