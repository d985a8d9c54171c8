"""The command ``trine``: finds the verb, runs it, and turns what it raises into one block and an exit code."""

from __future__ import annotations

import atexit
import importlib
import io
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol, cast

from trine import environment
from trine.cli.failures import ExitCode, print_failure
from trine.cli.parser import Parser, UsageError, nearest
from trine.errors import TrineError

__all__ = ["VERBS", "main", "process"]

VERBS = {
    "build": "make an engine from an ONNX file or a PyTorch module",
    "run": "answer images, arrays or random data with an engine",
    "bench": "time an engine, alone or beside PyTorch, ONNX Runtime and OpenVINO",
    "verify": "compare an engine's answers with its source's",
    "inspect": "show what is in an engine: layers, tactics, sizes, evidence",
    "doctor": "say what this machine can do and what is missing",
}

HELP = """\
usage: trine VERB [options]

A trained model to fast, verified inference: import, build, run.

verbs:
{verbs}

  trine VERB --help    the verb's options, with examples
  trine --version      the version

examples:
  trine build model.onnx --output model.trine --batch 1:8:64
  trine run model.trine photo.jpg --labels labels.txt
  trine bench model.trine --vs onnxruntime,openvino

exit codes: 0 done, 1 a check failed (accuracy), 2 usage, 3 model cannot be imported, 4 engine file,
            5 build, 6 a package is missing, 7 GPU, 70 a bug, 130 Ctrl-C, 141 the reader left
"""


_interrupts: list[int] = []  # the signals that asked this process to stop


class Verb(Protocol):
    """A module of this folder: what it parses and what it does."""

    def parser(self) -> Parser:
        """The verb's options."""

    def execute(self, options: Namespace) -> int:
        """Do it; the exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's). Returns the exit code; raises nothing but SystemExit(0)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    verb = arguments[0] if arguments and arguments[0] in VERBS else None
    command = f"trine {verb}" if verb else "trine"
    # Known before parsing, for errors of parsing.
    verbose = environment.debug() or any(argument in ("-v", "--verbose") for argument in arguments)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted(command)
    except BrokenPipeError:
        # The reader (`| head`) has enough. Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except (TrineError, OSError, MemoryError) as err:
        return _interrupted(command) if _interrupts else print_failure(command, err, show_traceback=verbose)
    except Exception as err:  # noqa: BLE001  the last resort: a bug ends in one block too, and exit code 70
        return _interrupted(command) if _interrupts else print_failure(command, err, show_traceback=verbose)


def process() -> NoReturn:
    """The command as a process of its own: runs its command line and ends with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    code = main()
    if code == ExitCode.INTERRUPTED:
        # Backends' threads may still compute or be half imported, and abort the process when it takes them down.
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Ctrl-C: KeyboardInterrupt, and remembered, for it comes out of a half imported package as something else."""
    _interrupts.append(number)
    raise KeyboardInterrupt


def _interrupted(command: str) -> ExitCode:
    print(f"\n{command}: interrupted; nothing was left behind", file=sys.stderr)
    return ExitCode.INTERRUPTED


def _prepare_streams() -> None:
    """A service may start with stdout or stderr closed (None), and a terminal's encoding may lack a file name's
    characters: neither is a reason to fail."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if len(arguments) > 1 and arguments[0] == "help":
            return _dispatch([arguments[1], "--help"])
        print(HELP.format(verbs="\n".join(f"  {verb:<8} {text}" for verb, text in VERBS.items())), end="")
        return ExitCode.OK if arguments else ExitCode.USAGE
    if arguments[0] in ("-V", "--version", "version"):
        print(f"trine {version()}")
        return ExitCode.OK
    verb, *rest = arguments
    if verb not in VERBS:
        guess = nearest(verb, VERBS)
        hint = f"; did you mean `trine {guess}`?" if guess else f"; known verbs: {', '.join(VERBS)}"
        kind = "option" if verb.startswith("-") else "verb"
        raise UsageError(f"unknown {kind} {verb!r}{hint}")
    # Only the asked verb is imported, and it imports heavy packages when it runs: --help stays instant.
    module = cast(Verb, importlib.import_module(f"trine.cli.{verb}"))
    return module.execute(module.parser().parse(rest))


def version() -> str:
    """The version of the trine that runs."""
    from trine import __version__

    return __version__


if __name__ == "__main__":
    process()
