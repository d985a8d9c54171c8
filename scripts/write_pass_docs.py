"""Writes the generated parts of docs/passes.md: the passes from their docstrings, the ratios from the measurements.

    python scripts/write_pass_docs.py            # rewrite them
    python scripts/write_pass_docs.py --check    # exit with 1 if they are out of date

The parts stand between ``<!-- generated:NAME -->`` and ``<!-- /generated -->``.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

from generated_parts import main

from trine.passes.pipeline import DEFAULT_PASSES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "passes.md"
RATIOS = ROOT / "benchmarks" / "results" / "recognised_forms.json"


def order() -> str:
    """The list as it is run; each name leads to its description."""
    names = [type(each).__name__ for each in DEFAULT_PASSES]
    return "\n".join(f"{number}. [{name}](#{name.lower()})" for number, name in enumerate(names, 1))


def passes() -> str:
    """Every pass once, in the order of its first run: what it does, before and after, and what it leaves alone."""
    sections = []
    for kind in dict.fromkeys(type(each) for each in DEFAULT_PASSES):
        path = Path(inspect.getfile(kind)).relative_to(ROOT)
        docstring = inspect.cleandoc(kind.__doc__ or "").replace("``", "`")
        paragraphs = [_joined(paragraph) for paragraph in docstring.split("\n\n")]
        body = "\n\n".join(paragraphs)
        sections.append(f"### {kind.__name__}\n\n{body}\n\n[Source](../{path})")
    return "\n" + "\n\n".join(sections) + "\n"


def _joined(paragraph: str) -> str:
    """One line; "Before:" and "After:" as items of a list."""
    text = " ".join(paragraph.split())
    if not text.startswith("Before: "):
        return text
    before, after = text.split(" After: ", 1)
    return f"- {before}\n- After: {after}"


def ratios() -> str:
    """The measured ratios, a row for each form."""
    found = json.loads(RATIOS.read_text(encoding="utf-8"))
    rows: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for entry in found["forms"]:
        rows.setdefault((entry["form"], entry["operator"]), {})[entry["backend"]] = entry
    lines = [
        "| spelled-out form | operator | ONNX Runtime | OpenVINO | largest difference |",
        "|---|---|---:|---:|---:|",
    ]
    for (form, operator), entries in rows.items():
        numbers = " | ".join(f"{entries[backend]['ratio']:.2f}" for backend in ("onnxruntime", "openvino"))
        error = max(entry["error"] for entry in entries.values())
        lines.append(f"| {form} | {operator} | {numbers} | {error:.0e} |")
    sets = [name for name in found["hardware"]["instruction_sets"] if name.startswith(("avx", "amx"))]
    machine = (
        f"{found['hardware']['cores']}-core {found['system'].split()[-1].replace('_', '-')} CPU ({sets[-1].upper()})"
    )
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("onnxruntime", "openvino"))
    return "\n".join(lines) + f"\n\nMeasured on a {machine}, one thread, with {versions}, {found['date']}."


PARTS = {"order": order, "passes": passes, "ratios": ratios}

if __name__ == "__main__":
    sys.exit(main(__doc__, PAGE, PARTS))
