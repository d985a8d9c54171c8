"""The command ``trine``: finds the verb, runs it, and turns what it raises into one block and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Protocol, cast

from trine import environment
from trine.cli.failures import ExitCode, print_failure
from trine.cli.parser import Parser, UsageError, nearest
from trine.errors import TrineError

__all__ = ["VERBS", "main"]

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
            5 build, 6 a package is missing, 70 a bug, 130 Ctrl-C
"""


class Verb(Protocol):
    """A module of this folder: what it parses and what it does."""

    def parser(self) -> Parser:
        """The verb's options."""

    def execute(self, options: Namespace) -> int:
        """Do it; the exit code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's). Returns the exit code; raises nothing but SystemExit(0)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verb = arguments[0] if arguments and arguments[0] in VERBS else None
    command = f"trine {verb}" if verb else "trine"
    # Known before parsing, for errors of parsing.
    verbose = environment.debug() or any(argument in ("-v", "--verbose") for argument in arguments)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"\n{command}: interrupted; nothing was left behind", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has enough. Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except (TrineError, OSError, MemoryError) as err:
        return print_failure(command, err, show_traceback=verbose)
    except Exception as err:  # noqa: BLE001  the last resort: a bug ends in one block too, and exit code 70
        return print_failure(command, err, show_traceback=verbose)


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
    """The installed version of trine, or "unknown" when run from a bare source tree."""
    from importlib import metadata

    try:
        return metadata.version("trine")
    except metadata.PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
