"""Tables of which networks work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from table_text import load, markdown, measured_on, one_line

__all__ = ["counts_of", "coverage", "coverage_models", "cuda_coverage"]


def counts_of(found: dict[str, Any], results: Path) -> list[tuple[str, int, int, int]]:
    """(library, passed, run, in all) of the sweep."""
    families = len((load(results, "timm_smallest") or {"models": {}})["models"])
    counts = []
    for library, label, total in (
        ("torchvision/", "torchvision classifiers", 80),
        ("timm/", "timm families", families),
    ):
        run = [entry for name, entry in found["results"].items() if name.startswith(library)]
        counts.append((label, sum(entry["passed"] for entry in run), len(run), total))
    return counts


def coverage(results: Path) -> str | None:
    """How many networks of the sweep passed, and the reason of each that did not."""
    found = load(results, "sweep_import")
    if found is None:
        return None
    counts = [[label, str(passed), str(run), str(total)] for label, passed, run, total in counts_of(found, results)]
    text = markdown(("networks", "passed", "run", "in all"), counts)
    misses = [
        f"| {name} | {one_line(entry['reason'])} |" for name, entry in found["results"].items() if not entry["passed"]
    ]
    if misses:
        text += "\n\n" + "\n".join(["| not passed | reason |", "| --- | --- |", *misses])
    packages = ("torch", "torchvision", "timm", "openvino", "onnxruntime")
    return f"{text}\n\nMeasured on {measured_on(found, packages)}"


def coverage_models(results: Path) -> str | None:
    """Every network of the sweep that passed."""
    found = load(results, "sweep_import")
    if found is None:
        return None
    rows = [
        [
            name,
            f"{entry['parameters'] / 1e6:.1f}",
            str(entry["nodes"]),
            f"{entry['relative_error']:.1e}",
            entry["tactic"],
        ]
        for name, entry in found["results"].items()
        if entry["passed"]
    ]
    return markdown(("network", "million parameters", "nodes", "relative error", "tactic"), rows)


def cuda_coverage(results: Path) -> str | None:
    """How many networks of the sweep need nothing of the CPU beside an NVIDIA GPU, and why the others do not pass."""
    found = load(results, "cuda_coverage")
    if found is None:
        return None
    counts = [[label, str(passed), str(run), str(total)] for label, passed, run, total in counts_of(found, results)]
    text = markdown(("networks", "passed", "run", "in all"), counts)
    misses = [
        f"| {name} | {one_line(entry['reason'])} |" for name, entry in found["results"].items() if not entry["passed"]
    ]
    if misses:
        text += "\n\n" + "\n".join(["| not passed | reason |", "| --- | --- |", *misses])
    errors = [entry["relative_error"] for entry in found["results"].values() if entry["passed"]]
    largest = f"The largest relative error of those that passed is {max(errors):.1e}." if errors else ""
    return f"{text}\n\n{largest} Executed on {measured_on(found, ('torch', 'torchvision', 'timm'))}"
