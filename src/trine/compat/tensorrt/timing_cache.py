"""ITimingCache: timings that a later build need not measure again, over trine's own timing cache."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.foundation import IHostMemory

if TYPE_CHECKING:
    from trine.compat.tensorrt.logger import Reporter

__all__ = ["ITimingCache"]

_VERSION = 1  # of trine's timing cache file


class ITimingCache(Checked):
    """Timings by what was timed. Made by ``IBuilderConfig.create_timing_cache``."""

    def __init__(self) -> None:
        self._timings: dict[str, float] = {}

    @classmethod
    def _from_bytes(cls, data: bytes, reporter: Reporter) -> ITimingCache | None:
        made = cls()
        if data and not made._read(data):
            reporter.error("IBuilderConfig::createTimingCache", "the bytes are no timing cache that trine wrote")
            return None
        return made

    def _read(self, data: bytes) -> bool:
        """Take the timings of a timing cache file's bytes; False where they are none."""
        try:
            content: Any = json.loads(data)
        except (ValueError, RecursionError):
            return False
        if not isinstance(content, dict) or content.get("trine_timing_cache") != _VERSION:
            return False
        timings = content.get("timings_ms")
        if not isinstance(timings, dict) or not all(isinstance(value, int | float) for value in timings.values()):
            return False
        self._timings.update({str(key): float(value) for key, value in timings.items()})
        return True

    def serialize(self) -> IHostMemory:
        """The timings as bytes, which ``create_timing_cache`` takes; also a file for ``trine build --timing-cache``."""
        content = {"trine_timing_cache": _VERSION, "timings_ms": self._timings}
        return IHostMemory(json.dumps(content, indent=0, sort_keys=True).encode())

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Take another cache's timings too. The machine is part of each timing's key, so nothing can mismatch."""
        self._timings.update(input_cache._timings)
        return True

    def reset(self) -> bool:
        """Forget all."""
        self._timings.clear()
        return True

    def queryKeys(self) -> list[str]:  # noqa: N802  # TensorRT's spelling
        """What was timed, as keys for ``query``."""
        return sorted(self._timings)

    def query(self, key: str) -> float | None:
        """The time in milliseconds, or None."""
        return self._timings.get(str(key))
