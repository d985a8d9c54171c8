"""How large a tensor's values get: seen batch by batch, and cut where INT8 loses least."""

from __future__ import annotations

import numpy as np

from trine.errors import ConfigError

__all__ = ["METHODS", "SeenRange"]

METHODS = ("minmax", "entropy", "percentile")
_BINS = 2048
_LEVELS = 128  # of a symmetric int8 value's magnitude
_STEP = 16  # every 16th bin is tried as a threshold: finer steps change scales by less than a percent
_PERCENTILE = 0.9999


class SeenRange:
    """A histogram of magnitudes, which grows with what it is shown."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._limit = 0.0
        self._counts = np.zeros(_BINS, np.int64)

    def observe(self, array: np.ndarray) -> None:
        """Count the magnitudes of ``array``, of any shape. Raises ConfigError for NaN and infinity."""
        magnitudes = np.abs(array.ravel().astype(np.float32))
        if not magnitudes.size:
            return
        largest = float(magnitudes.max())
        if not np.isfinite(largest):
            raise ConfigError("calibration met NaN or infinity; look at the batches")
        self.largest = max(self.largest, largest)
        if largest == 0:
            self._counts[0] += magnitudes.size
            return
        if self._limit == 0:
            self._limit = largest
        while largest > self._limit:  # twice the range, half the bins
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)])
            self._limit *= 2
        bins = np.minimum((magnitudes * (_BINS / self._limit)).astype(np.int64), _BINS - 1)
        self._counts += np.bincount(bins, minlength=_BINS)

    def amax(self, method: str) -> float:
        """The magnitude that becomes 127: the largest seen, the one that 99.99% stay below, or the least lossy."""
        if method not in METHODS:
            raise ConfigError(f"calibration method {method!r} is unknown; allowed: {', '.join(METHODS)}")
        if method == "minmax" or self.largest == 0:
            return self.largest
        width = self._limit / _BINS
        if method == "percentile":
            below = np.cumsum(self._counts) / self._counts.sum()
            return float(min((int(np.searchsorted(below, _PERCENTILE)) + 1) * width, self.largest))
        return float(min(self._least_lossy() * width, self.largest))

    def _least_lossy(self) -> int:
        """The number of bins to keep so that 128 levels tell least otherwise than they do (Kullback-Leibler)."""
        best, least = _BINS, np.inf
        counts = self._counts.astype(np.float64)
        for kept in range(_LEVELS, _BINS + 1, _STEP):
            wanted = counts[:kept].copy()
            wanted[-1] += counts[kept:].sum()
            present = counts[:kept] > 0
            level = np.arange(kept) * _LEVELS // kept
            sums = np.bincount(level, counts[:kept], _LEVELS)
            filled = np.maximum(np.bincount(level, present, _LEVELS), 1)
            got = np.where(present, (sums / filled)[level], 0.0)
            if not got.sum() or not wanted.sum():
                continue
            p, q = wanted / wanted.sum(), got / got.sum()
            lossy = p > 0
            if (q[lossy] == 0).any():  # what was clipped fell on a bin that has nothing: worth a little, not infinity
                q = np.maximum(q, 1e-12)
            divergence = float((p[lossy] * np.log(p[lossy] / q[lossy])).sum())
            if divergence < least:
                best, least = kept, divergence
        return best
