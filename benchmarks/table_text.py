"""What the tables of measured results are made of: results files, Markdown, and the line on the machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["load", "markdown", "measured_on", "milliseconds", "one_line"]


def load(results: Path, name: str) -> dict[str, Any] | None:
    """The results file ``name``.json, or None when it has not been measured."""
    path = results / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns after the first are numbers, to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def measured_on(result: dict[str, Any], packages: Sequence[str]) -> str:
    """One line on the hardware, versions and date."""
    hardware = result["hardware"]
    sets = ", ".join(hardware["instruction_sets"][-2:]) or "no vector extensions"
    versions = ", ".join(f"{name} {result['versions'][name]}" for name in packages if name in result["versions"])
    return f"{hardware['cpu']}, {hardware['cores']} cores ({sets}), {result['system']}; {versions}; {result['date']}."


def milliseconds(time: dict[str, Any]) -> str:
    return f"{time['median_ms']:.3f} ({time['p10_ms']:.3f}-{time['p90_ms']:.3f})"


def one_line(text: str, limit: int = 300) -> str:
    """``text`` on one line of a table."""
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
