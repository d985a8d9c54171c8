"""Writes the generated parts of docs/compat-tensorrt.md from the three lists of names.

    python scripts/write_compat_docs.py            # rewrite them
    python scripts/write_compat_docs.py --check    # exit with 1 if they are out of date

The parts stand between ``<!-- generated:NAME -->`` and ``<!-- /generated -->``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from generated_parts import main

from trine.compat.tensorrt.standing import ACCEPTED, REFUSED, WORKS, Standing, standings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compat-tensorrt.md"
VERSIONS = ("8.2", "8.6", "10.0", "10.16", "11.1")
OUTSIDE = ("IPlugin", "Plugin", "IAlgorithm", "DimsExprs", "IDimensionExpr", "IExprBuilder", "DynamicPlugin")


def counts() -> str:
    """How many names are on which list, for each version."""
    lines = [
        "| TensorRT | names | works | accepted without effect | refused | works, without plugins and selectors |",
        "|---|---|---|---|---|---|",
    ]
    for version in VERSIONS:
        entries = standings(version)
        core = [entry for entry in entries if not entry.cls.startswith(OUTSIDE)]
        share = sum(entry.list == WORKS for entry in core) / len(core)
        each = [str(sum(entry.list == kind for entry in entries)) for kind in (WORKS, ACCEPTED, REFUSED)]
        lines.append(f"| {version} | {len(entries)} | {' | '.join(each)} | {share:.1%} of {len(core)} |")
    return "\n".join(lines)


def reasons(kind: str) -> str:
    """The names of all versions that are on one list, by their reason."""
    by_reason: dict[str, dict[str, None]] = {}
    for version in VERSIONS:
        for entry in standings(version):
            if entry.list == kind:
                by_reason.setdefault(entry.reason, {})[_name(entry, kind)] = None
    lines = ["| why | names |", "|---|---|"]
    for reason, names in sorted(by_reason.items()):
        lines.append(f"| {reason} | {', '.join(f'`{name}`' for name in sorted(names))} |")
    return "\n".join(lines)


def _name(entry: Standing, kind: str) -> str:
    whole = kind == REFUSED and entry.cls.startswith((*OUTSIDE, "Caffe", "Uff", "IPluginV"))
    return entry.cls if whole or not entry.member else f"{entry.cls}.{entry.member}"


PARTS = {"counts": counts, "accepted": lambda: reasons(ACCEPTED), "refused": lambda: reasons(REFUSED)}

if __name__ == "__main__":
    sys.exit(main(__doc__, PAGE, PARTS))
