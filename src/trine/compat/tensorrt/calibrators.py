"""INT8 calibrators, to be derived from: what TensorRT 10 and older ask for batches."""

from __future__ import annotations

from typing import Any, ClassVar

from trine.compat.tensorrt.enums import current
from trine.compat.tensorrt.eras import govern

__all__ = [
    "IInt8Calibrator",
    "IInt8EntropyCalibrator",
    "IInt8EntropyCalibrator2",
    "IInt8LegacyCalibrator",
    "IInt8MinMaxCalibrator",
]


@govern
class IInt8Calibrator:
    """Gives batches to measure activations by. Derive from one of its kinds, and call its ``__init__``."""

    _algorithm: ClassVar[str] = "ENTROPY_CALIBRATION_2"

    def __init__(self) -> None:
        """Nothing to set up."""

    def get_batch_size(self) -> int:
        """How many rows a batch has."""
        raise NotImplementedError(f"{type(self).__name__} must define get_batch_size()")

    def get_batch(self, names: list[str]) -> list[int] | None:
        """The address of each input's next batch, in the order of ``names``; None when there are no more."""
        raise NotImplementedError(f"{type(self).__name__} must define get_batch(names)")

    def get_algorithm(self) -> Any:
        """How ranges are chosen from what was seen."""
        return current("CalibrationAlgoType")[self._algorithm]

    def read_calibration_cache(self) -> Any:
        """What ``write_calibration_cache`` was given earlier; None to measure."""
        return None

    def write_calibration_cache(self, cache: Any) -> None:
        """Keep what was measured, for another build."""


@govern
class IInt8LegacyCalibrator(IInt8Calibrator):
    """Ranges by percentile."""

    _algorithm = "LEGACY_CALIBRATION"


@govern
class IInt8EntropyCalibrator(IInt8Calibrator):
    """Ranges that lose the least information."""

    _algorithm = "ENTROPY_CALIBRATION"


@govern
class IInt8EntropyCalibrator2(IInt8Calibrator):
    """Ranges that lose the least information, of activations only."""

    _algorithm = "ENTROPY_CALIBRATION_2"


@govern
class IInt8MinMaxCalibrator(IInt8Calibrator):
    """Ranges that cover all that was seen."""

    _algorithm = "MINMAX_CALIBRATION"
