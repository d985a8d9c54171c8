"""Where TensorRT's messages go: ILogger, to be derived from, and Logger, which prints."""

from __future__ import annotations

import datetime
import sys
from typing import Any, ClassVar

from trine.compat.tensorrt.enums import Severity
from trine.errors import TrineError

__all__ = ["ILogger", "Logger", "Reporter"]


class ILogger:
    """What is told what happens. Derive from it, call its ``__init__``, and define ``log(severity, msg)``."""

    Severity: ClassVar[Any] = Severity
    INTERNAL_ERROR: ClassVar[Any] = Severity.INTERNAL_ERROR
    ERROR: ClassVar[Any] = Severity.ERROR
    WARNING: ClassVar[Any] = Severity.WARNING
    INFO: ClassVar[Any] = Severity.INFO
    VERBOSE: ClassVar[Any] = Severity.VERBOSE

    def __init__(self) -> None:
        """Nothing to set up; here because TensorRT asks that derived classes call it."""

    def log(self, severity: Any, msg: str) -> None:
        """Take one message. Raises NotImplementedError here."""
        raise NotImplementedError(f"{type(self).__name__} must define log(severity, msg)")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to release."""


class Logger(ILogger):
    """Prints messages of at least ``min_severity`` to stderr."""

    min_severity: Any = Severity.WARNING

    def __init__(self, min_severity: Severity = Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = Severity(min_severity)

    def log(self, severity: Any, msg: str) -> None:
        """Print ``[time] [trine] [E] msg``, unless the severity is below the least wanted."""
        if severity > self.min_severity:
            return
        now = datetime.datetime.now().strftime("%m/%d/%Y-%H:%M:%S")
        letter = {"INTERNAL_ERROR": "F"}.get(Severity(severity).name, Severity(severity).name[0])
        print(f"[{now}] [trine] [{letter}] {msg}", file=sys.stderr)


class Reporter:
    """Tells errors as TensorRT does: to the logger, to the error recorder if there is one, and by None or False."""

    def __init__(self, logger: Any) -> None:
        if not isinstance(logger, ILogger) and not callable(getattr(logger, "log", None)):
            raise TypeError(f"expected a tensorrt.ILogger, got {type(logger).__name__}")
        self.logger = logger
        self.recorder: Any = None

    def error(self, where: str, what: object, code: str = "INVALID_ARGUMENT") -> None:
        """Log an error that happened in ``where`` and record it. ``code`` is a name of ErrorCodeTRT."""
        message = f"{where}: Error Code {_CODES[code]}: {what}"
        self.logger.log(Severity.ERROR, message)
        if self.recorder is not None:
            from trine.compat.tensorrt.enums import current

            self.recorder.report_error(current("ErrorCodeTRT")[code], message)

    def failed(self, where: str, error: TrineError | ValueError | OSError) -> None:
        """``error``, for what trine's own exceptions mean."""
        self.error(where, error, _code_of(error))

    def warning(self, what: str) -> None:
        """Log a warning."""
        self.logger.log(Severity.WARNING, what)

    def info(self, what: str) -> None:
        """Log what is worth knowing."""
        self.logger.log(Severity.INFO, what)

    def verbose(self, what: str) -> None:
        """Log a detail."""
        self.logger.log(Severity.VERBOSE, what)


_CODES = {
    "UNSPECIFIED_ERROR": 1,
    "INTERNAL_ERROR": 2,
    "INVALID_ARGUMENT": 3,
    "INVALID_CONFIG": 4,
    "FAILED_ALLOCATION": 5,
    "FAILED_INITIALIZATION": 6,
    "FAILED_EXECUTION": 7,
    "FAILED_COMPUTATION": 8,
    "INVALID_STATE": 9,
    "UNSUPPORTED_STATE": 10,
}
_KINDS = {
    "ConfigError": "INVALID_ARGUMENT",
    "InputError": "INVALID_ARGUMENT",
    "UnsupportedError": "UNSUPPORTED_STATE",
    "AccuracyError": "FAILED_COMPUTATION",
    "BuildError": "INTERNAL_ERROR",
    "EngineFormatError": "INVALID_ARGUMENT",
    "MissingDependencyError": "FAILED_INITIALIZATION",
}


def _code_of(error: Exception) -> str:
    for kind in type(error).__mro__:
        if kind.__name__ in _KINDS:
            return _KINDS[kind.__name__]
    return "UNSPECIFIED_ERROR"
