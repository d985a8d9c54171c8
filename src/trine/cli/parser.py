"""Argument parsing: argparse that raises instead of exiting, and suggests the nearest spelling."""

from __future__ import annotations

import argparse
import difflib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, TypeVar

from trine.errors import ConfigError

__all__ = ["Parser", "UsageError", "argument_type", "nearest", "positive_float", "positive_int", "whole_number"]

T = TypeVar("T")


class UsageError(ConfigError):
    """The command line itself is wrong; the text says what would be right."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The spelling in ``known`` closest to ``word``, ignoring case, or None if nothing is close."""
    # Without their dashes, which any two options have in common: --int8 is not close to --quiet.
    by_lower = {name.lower().lstrip("-"): name for name in known}
    found = difflib.get_close_matches(word.lower().lstrip("-"), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def argument_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """``parse`` as an argparse ``type=``: argparse hides a ValueError's text, but shows this one's."""

    @functools.wraps(parse)
    def wrapped(text: str) -> T:
        try:
            return parse(text)
        except ConfigError as err:
            raise argparse.ArgumentTypeError(str(err)) from err

    return wrapped


@argument_type
def positive_int(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


@argument_type
def whole_number(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


@argument_type
def positive_float(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise ConfigError(f"expected a number above 0, got {text!r}")
    return value


def _wide(prog: str) -> argparse.HelpFormatter:
    """Descriptions as written, options in a column wide enough for the longest of most."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=110)


class Parser(argparse.ArgumentParser):
    """A verb's parser: no abbreviations, errors raised as UsageError, examples below the options."""

    def __init__(self, verb: str, arguments: str, description: str, examples: Sequence[str]) -> None:
        super().__init__(
            prog=f"trine {verb}",
            usage=f"trine {verb} {arguments}",
            description=description,
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
            formatter_class=_wide,
            allow_abbrev=False,
        )
        self._printing = self.add_argument_group("printing")
        self._printing.add_argument("--json", action="store_true", help="print one JSON document on stdout")
        loudness = self._printing.add_mutually_exclusive_group()
        loudness.add_argument("-q", "--quiet", action="store_true", help="print errors and results only")
        loudness.add_argument("-v", "--verbose", action="store_true", help="more detail, and tracebacks of errors")

    def error(self, message: str) -> NoReturn:
        """Raise where argparse would print and exit."""
        start, required, names = message.partition("arguments are required: ")
        if required and start == "the following ":
            # Python 3.11 and 3.12 count a `FILE ...` of which there may be none among them.
            message = f"{', '.join(name for name in names.split(', ') if name != 'FILE')} is missing"
        raise UsageError(f"{message}\n{self.format_usage().strip()}")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse all of ``arguments``. Raises UsageError, with the nearest option for one that is unknown."""
        # Before argparse: it would report a missing argument when the cause is a misspelt option.
        for argument in arguments:
            if argument == "--":
                break
            name = argument.split("=", 1)[0]
            if name.startswith("--") and name not in self._option_string_actions:
                self._unknown_option(name)
        # Intermixed: `run net.trine --labels labels.txt photo.jpg` has its files in two places.
        namespace, extras = self.parse_known_intermixed_args(list(arguments))
        for extra in extras:
            if extra.startswith("-") and extra != "-":
                self._unknown_option(extra)
        if extras:
            self.error(f"unexpected argument {extras[0]!r}")
        return namespace

    def _unknown_option(self, name: str) -> NoReturn:
        guess = nearest(name, self._option_string_actions)
        hint = f"; did you mean {guess}?" if guess else f"; see: {self.prog} --help"
        raise UsageError(f"unknown option {name}{hint}")
