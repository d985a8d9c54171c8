"""Cells of an earlier run that stay when a few models are measured again."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

__all__ = ["kept_cells"]


def kept_cells(path: Path, machine: dict[str, Any], models: Collection[str]) -> list[dict[str, Any]]:
    """The cells in the file ``path`` of all but ``models``, in their order; none where there is no file.

    Each says the date on which it was measured, as the file's own date becomes that of the new run.

    Raises ValueError where hardware or versions are not those of ``machine``: such times are not compared in one table.
    """
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    for what in ("hardware", "versions"):
        if found[what] != machine[what]:
            raise ValueError(f"{path} has other {what}: {found[what]}, and here {machine[what]}")
    return [{**cell, "date": cell.get("date", found["date"])} for cell in found["cells"] if cell["model"] not in models]
