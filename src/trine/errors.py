"""Every exception that trine raises on purpose.

    TrineError
    ├── ConfigError (ValueError)             an unknown option, dtype, device, precision or shape
    ├── ModelImportError                     the model cannot be imported
    │   ├── UnsupportedError                 it uses operators, dtypes or opsets that nothing here can take
    │   └── ExternalDataError                its external data leaves the model's folder, or is damaged
    ├── BuildError                           no tactic could compile the graph
    ├── AccuracyError                        the engine's answers are outside the accuracy budget
    ├── EngineFormatError                    the file is no engine, or is damaged; ``section`` says where
    │   └── EngineVersionError               the file was written by a newer trine
    ├── EngineSaveError (OSError)            the engine could not be written; nothing was left behind
    ├── InputError (ValueError)              a call's arrays do not fit the engine
    ├── ExecutionError (RuntimeError)        the backend failed while it computed a call
    ├── DeviceError (RuntimeError)           the GPU or its driver refused
    │   ├── NoDeviceError                    no driver, no GPU, or none that can run the engine's kernels
    │   ├── DeviceMemoryError                the GPU has too little free memory
    │   └── DeviceLostError                  a kernel failed; the process has to start anew
    └── MissingDependencyError (ImportError) an optional package is absent; the text names the extra

Messages say which thing, what it got, what it wanted, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trine.verify.report import Report

__all__ = [
    "AccuracyError",
    "BuildError",
    "ConfigError",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "EngineFormatError",
    "EngineSaveError",
    "EngineVersionError",
    "ExecutionError",
    "ExternalDataError",
    "InputError",
    "MissingDependencyError",
    "ModelImportError",
    "NoDeviceError",
    "TrineError",
    "UnsupportedError",
]


class TrineError(Exception):
    """Base of every error that trine raises on purpose."""


class ConfigError(TrineError, ValueError):
    """An option has a value that trine does not know; the text lists what is allowed."""


class ModelImportError(TrineError):
    """The model cannot be imported."""


class UnsupportedError(ModelImportError):
    """The model needs something that nothing installed here can import or run.

    ``problems`` lists every one found, not just the first.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ExternalDataError(ModelImportError):
    """An ONNX model's external data is outside its folder, missing, damaged or too large."""


class BuildError(TrineError):
    """No tactic could compile the graph; ``refusals`` maps each tactic to its reason."""

    def __init__(self, message: str, refusals: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.refusals = dict(refusals or {})


class AccuracyError(TrineError):
    """The engine's answers differ from the source's by more than the budget.

    ``report`` is the whole comparison; its table is part of the message.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class EngineFormatError(TrineError):
    """The bytes are no engine, or a damaged one; ``section`` names the damaged part."""

    def __init__(self, message: str, section: str) -> None:
        super().__init__(f"{section}: {message}")
        self.section = section


class EngineVersionError(EngineFormatError):
    """The engine file has a format version that this trine does not read."""


class EngineSaveError(TrineError, OSError):
    """The engine could not be written; no partial file is left."""


class InputError(TrineError, ValueError):
    """The arrays given to an engine do not fit it: name, count, dtype, rank, shape or device."""


class ExecutionError(TrineError, RuntimeError):
    """The backend failed while it computed a call: a value in the inputs that the model cannot take, such as an index
    out of range; or one context in two threads. The engine itself is sound, and other calls may succeed."""


class DeviceError(TrineError, RuntimeError):
    """The GPU, or its driver, refused or failed; the text has the driver's name for it."""


class NoDeviceError(DeviceError):
    """There is no NVIDIA driver, no such GPU, or the GPU cannot run the engine's kernels."""


class DeviceMemoryError(DeviceError):
    """The GPU, or the host for copies to it, has too little memory. Nothing is broken: the next call may succeed."""


class DeviceLostError(DeviceError):
    """A kernel failed, which ends everything on the GPU in this process; it has to start anew."""


class MissingDependencyError(TrineError, ImportError):
    """A package that this needs is not installed; the text has the install command."""
