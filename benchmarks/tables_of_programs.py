"""Tables of other people's programs over trine: TensorRT's parser and builder, torch2trt, NVIDIA's samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from table_text import load, markdown, measured_on, one_line

__all__ = ["nvidia_samples", "tensorrt_build", "tensorrt_verdicts", "torch2trt_errors", "torch2trt_suite"]


def tensorrt_build(results: Path) -> str | None:
    """What TensorRT for RTX made of trine's graphs."""
    found = load(results, "tensorrt_build")
    if found is None:
        return None
    rows = [
        [
            row["network"],
            f"{row['nodes']}",
            f"{row['layers']}",
            f"{row['plan_mb']:,.1f}",
            f"{row['fp16_weights_mb']:,.1f}",
            f"{row['seconds']:.1f}",
        ]
        if row["parses"]
        else [row["network"], f"{row['nodes']}", "; ".join(row["reasons"]), "", "", ""]
        for row in found["rows"]
    ]
    header = (
        "network",
        "nodes in trine's graph",
        "layers in the plan",
        "plan, MB",
        "fp16 weights, MB",
        "seconds to build",
    )
    return f"{markdown(header, rows)}\n\n{found['package']} {found['version']}, without a GPU; {found['date']}."


def tensorrt_verdicts(results: Path) -> str | None:
    """Which of ONNX's backend tests TensorRT's parser takes, beside those that trine runs."""
    found = load(results, "tensorrt_verdicts")
    if found is None:
        return None
    refused = ", ".join(f"{name} {count}" for name, count in list(found["refused_operators"].items())[:12])
    header = ("tests of ONNX's suite", f"{found['tests']:,}")
    rows = [
        ["run by trine, and taken by TensorRT's parser", f"{found['both']:,}"],
        ["run by trine, refused by the parser", f"{found['trine']:,}"],
        ["refused by trine, taken by the parser", f"{found['tensorrt']:,}"],
        ["refused by both", f"{found['none']:,}"],
    ]
    types, axes = (found["reasons"].get(name, 0) for name in ("importInput", "getReduceAxisMask"))
    return (
        f"{markdown(header, rows)}\n\n{found['package']} {found['version']}; {found['date']}. {types} of its refusals "
        f"are of an input's type, and {axes} of a reduction's axes that are an input; in a model they are mostly "
        f"constants. The operators that it refuses most often, in tests of one operator that trine runs: {refused}."
    )


def torch2trt_suite(results: Path) -> str | None:
    """torch2trt's own tests: how many pass, and each that does not, with whose fault it is."""
    found = load(results, "torch2trt_suite")
    if found is None:
        return None
    lines = ["| not passed | whose fault | why |", "| --- | --- | --- |"]
    for line in found["not_passed"]:
        name = line["test"].split("::")[-1]
        lines.append(f"| `{name}` | {line['fault']} | {one_line(line['reason'] or line['error'][:120])} |")
    passed, revision = found["outcomes"].get("passed", 0), (found["revision"] or "unknown")[:10]
    table = "\n".join(lines)
    run_on = measured_on(found, ("openvino", "onnxruntime", "torch", "torchvision"))
    return f"{passed} of {found['tests']} pass, at torch2trt's revision {revision}.\n\n{table}\n\nRun on {run_on}"


def torch2trt_errors(results: Path) -> str | None:
    """Relative errors of trine's torch2trt, and of NVIDIA's converters over trine."""
    found = load(results, "torch2trt_errors")
    if found is None:
        return None

    def shown(cell: dict[str, Any]) -> str:
        return f"{cell['relative_error']:.1e}" if "relative_error" in cell else "fails"

    rows = [[name, shown(row["trine"]), shown(row["torch2trt"])] for name, row in found["rows"].items()]
    failed = [
        f"- {name}, {'trine' if which == 'trine' else 'NVIDIA'}: {one_line(cell['error'][:150])}"
        for name, row in found["rows"].items()
        for which, cell in row.items()
        if "error" in cell
    ]
    table = markdown(("converted", "trine's torch2trt", "NVIDIA's converters over trine"), rows)
    reasons = "\n\nThose that fail:\n\n" + "\n".join(failed) if failed else ""
    run_on = measured_on(found, ("openvino", "onnxruntime", "torch", "torchvision"))
    return f"{table}{reasons}\n\nRun on {run_on}"


def nvidia_samples(results: Path) -> str | None:
    """What became of each of NVIDIA's Python samples, for each version that was run."""
    found = load(results, "nvidia_samples")
    if found is None:
        return None
    versions = sorted(found["versions_run"], key=lambda version: [int(part) for part in version.split(".")])
    rows = {}
    for version in versions:
        for sample in found["versions_run"][version]:
            cells = rows.setdefault(sample["name"], dict.fromkeys(versions, "-"))
            cells[version] = (
                "works" if sample["status"] == "pass" else one_line(f"no: {sample['why'] or sample['reason']}")
            )
    table = markdown(
        ("sample", *versions),
        [[name, *(cells[version] for version in versions)] for name, cells in sorted(rows.items())],
    )
    others = [f"| {name} | {reason} |" for name, reason in sorted(found["not_run"].items())]
    tail = "\n".join(["| not run | why, judging by what it needs |", "| --- | --- |", *others])
    packages = ("openvino", "onnxruntime", "torch", "torchvision")
    return f"{table}\n\n{tail}\n\nRun on {measured_on(found, packages)}"
