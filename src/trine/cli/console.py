"""Where a verb prints: results on stdout, progress and warnings on stderr."""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["note", "print_json", "results", "show_log", "table"]


_WIDTH = 160  # of a pipe, which has none: no row is folded, as a program may read it
_NARROWEST = 100  # of a terminal: a table is folded by the terminal rather than cut through its numbers


def results() -> Console:
    """A rich console on stdout that never breaks names apart to colour them. A reader that left is a
    BrokenPipeError, where rich itself would end the process with exit code 1."""
    from rich.console import Console

    class Results(Console):
        def on_broken_pipe(self) -> None:
            raise  # what rich handles when it calls this: the BrokenPipeError

    width = max(shutil.get_terminal_size((_WIDTH, 24)).columns, _NARROWEST) if sys.stdout.isatty() else _WIDTH
    return Results(highlight=False, soft_wrap=True, width=width)


def table(*headings: str, numeric: tuple[str, ...] = ()) -> Table:
    """An empty table; the ``numeric`` columns are aligned to the right."""
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numeric else "left", overflow="fold")
    return made


def print_json(document: Any) -> None:
    """One JSON document on stdout. NaN and infinities, which JSON lacks, become null."""
    print(json.dumps(_finite(document), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def note(options: Namespace, text: str) -> None:
    """One line on stderr, unless --quiet."""
    if not options.quiet:
        print(text, file=sys.stderr)


def show_log(options: Namespace) -> None:
    """Send trine's log to stderr: warnings; everything with --verbose; errors only with --quiet."""
    log = logging.getLogger("trine")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        log.addHandler(handler)
        log.propagate = False
    log.setLevel(logging.DEBUG if options.verbose else logging.ERROR if options.quiet else logging.WARNING)
