"""What a command that fails prints, and the number that it exits with."""

from __future__ import annotations

import enum
import errno
import os
import sys
import textwrap
import traceback

from trine import errors

__all__ = ["ExitCode", "describe", "exit_code", "print_failure"]


class ExitCode(enum.IntEnum):
    """The exit codes of every verb; docs/command-line.md has the same table."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    IMPORT = 3
    ENGINE_FILE = 4
    BUILD = 5
    MISSING_PACKAGE = 6
    DEVICE = 7
    INTERNAL = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


# The first row that matches decides, so a subclass stands before its base.
_KINDS: tuple[tuple[type[BaseException], ExitCode, str, str], ...] = (
    (
        errors.AccuracyError,
        ExitCode.CHECK_FAILED,
        "the engine's answers are outside the accuracy budget; no file was written",
        "Build with a higher precision (--precision fp32), or widen --accuracy-budget if the error is acceptable.",
    ),
    (errors.MissingDependencyError, ExitCode.MISSING_PACKAGE, "a package is missing", "See: trine doctor"),
    (
        errors.UnsupportedError,
        ExitCode.IMPORT,
        "the model uses something that nothing here can import or run",
        "For a PyTorch call, a converter (trine.converter) can stand in; otherwise, change the model there.",
    ),
    (errors.ModelImportError, ExitCode.IMPORT, "the model cannot be imported", ""),
    (
        errors.EngineVersionError,
        ExitCode.ENGINE_FILE,
        "the engine was written by a newer trine",
        "Upgrade trine here (pip install --upgrade trine), or build the engine again.",
    ),
    (
        errors.EngineFormatError,
        ExitCode.ENGINE_FILE,
        "this is no engine, or a damaged one",
        "",
    ),
    (
        errors.EngineSaveError,
        ExitCode.ENGINE_FILE,
        "the file could not be written; nothing was left behind",
        "",
    ),
    (errors.BuildError, ExitCode.BUILD, "no tactic could compile the model", "See: trine doctor"),
    (errors.NoDeviceError, ExitCode.DEVICE, "there is no GPU here for this", "See: trine doctor"),
    (errors.DeviceMemoryError, ExitCode.DEVICE, "the GPU has too little free memory", ""),
    (errors.DeviceError, ExitCode.DEVICE, "the GPU failed", ""),
    (errors.ExecutionError, ExitCode.BUILD, "the backend could not compute this call", ""),
    (errors.InputError, ExitCode.USAGE, "the input does not fit the engine", ""),
    (errors.ConfigError, ExitCode.USAGE, "the command cannot be run as it is written", ""),
    (OSError, ExitCode.USAGE, "a file cannot be read or written", ""),
    (MemoryError, ExitCode.BUILD, "there is not enough memory", "Use a smaller batch or a smaller model."),
)


def describe(error: BaseException) -> tuple[ExitCode, str, str]:
    """Exit code, title, and what to do next ("" when the message itself says it)."""
    for kind, code, title, advice in _KINDS:
        if isinstance(error, kind):
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                return ExitCode.ENGINE_FILE, title, advice  # such as `> report.txt` on a full disk
            return code, title, advice
    return (
        ExitCode.INTERNAL,
        f"unexpected {type(error).__name__}",
        "This is a bug in trine or in the model. Run again with --verbose and report the traceback.",
    )


def exit_code(error: BaseException) -> ExitCode:
    """The number that a command ends with after ``error``."""
    return describe(error)[0]


def print_failure(command: str, error: BaseException, *, show_traceback: bool) -> ExitCode:
    """Print one block on stderr: title, what happened, what to do. Returns the exit code.

    Plain writes, not rich: this must work when the terminal, the disk or an import is what failed.
    """
    code, title, advice = describe(error)
    if show_traceback:
        traceback.print_exception(error, file=sys.stderr)
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    bold, red, plain = ("\033[1m", "\033[31m", "\033[0m") if colours else ("", "", "")
    parts = [f"{red}{bold}{command}: {title}{plain}"]
    if text := _printable(_message(error)):
        parts.append(textwrap.indent(text, "  "))
    if advice:
        parts.append(textwrap.indent(advice, "  "))
    print("\n".join(parts), file=sys.stderr)
    return code


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if type(error) is OSError and error.strerror and error.filename is None:
        return error.strerror  # of stdout, most often: no file to name, and the number says nothing
    text = str(error).strip()
    if isinstance(error, errors.EngineFormatError):
        if error.section == "file":  # the section of what is no engine at all: its message has the advice
            text = text.removeprefix("file: ")
            return f"the file {text}" if text.startswith("is ") else text
        if not isinstance(error, errors.EngineVersionError):
            return f"{text}\nBuild it again with `trine build`, or copy it again and compare checksums."
    if isinstance(error, errors.BuildError):
        lines = [f"{name}: {reason}" for name, reason in error.refusals.items() if reason not in text]
        text = "\n".join([text, *lines])
    if isinstance(error, errors.UnsupportedError):
        lines = [problem for problem in error.problems if problem not in text]
        text = "\n".join([text, *lines])
    return text or type(error).__name__


def _printable(text: str) -> str:
    """Without control characters: names in a file must not steer the terminal."""
    return "".join(char if char in "\n\t" or char.isprintable() else repr(char)[1:-1] for char in text)
