"""Writes the tables of README.md and docs/ from the JSON files in benchmarks/results.

    python benchmarks/tables.py            # rewrite the tables
    python benchmarks/tables.py --check    # say which are out of date, and exit with 1 if any is

A table stands between ``<!-- table:NAME -->`` and ``<!-- /table -->``. Names that are not in ``TABLES`` are other
scripts', and left alone; so is a table whose results have not been measured yet.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table:([\w-]+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        fresh = fill(text)
        if fresh != text:
            stale.append(page.relative_to(ROOT))
            if not args.check:
                page.write_text(fresh, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'tables are out of date; run python benchmarks/tables.py' if args.check else 'rewritten'}")
    return 1 if stale and args.check else 0


def fill(text: str, results: Path = RESULTS) -> str:
    """``text`` with every table that we know and have results for made anew."""

    def table(match: re.Match[str]) -> str:
        make = TABLES.get(match[2])
        made = make(results) if make is not None else None
        return match[0] if made is None else f"{match[1]}{made}\n{match[4]}"

    return BLOCK.sub(table, text)


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


def cpu_peers(results: Path) -> str | None:
    """Every model, batch and precision: milliseconds of all, and the ratio."""
    found = load(results, "cpu_peers")
    if found is None:
        return None
    rows = []
    for entry in found["models"]:
        if not entry["available"]:
            continue
        times = entry["times"]

        def cell(name: str, times: dict[str, Any] = times) -> str:
            if name not in times:
                return "-"
            time = times[name]
            return f"{time['median_ms']:.1f} ({time['p10_ms']:.1f}-{time['p90_ms']:.1f})"

        openvino = min(
            (name for name in ("openvino", "openvino latency") if name in times),
            key=lambda name, times=times: times[name]["median_ms"],
        )
        rows.append(
            [
                f"{entry['model']}, {entry['precision']}, batch {entry['batch']}",
                cell("trine"),
                cell("onnxruntime"),
                cell(openvino),
                f"**{entry['ratio']:.2f}**",
                entry["tactic"],
            ]
        )
    header = ("model", "trine, ms", "ONNX Runtime, ms", "OpenVINO, ms", "trine / best", "trine's tactic")
    packages = ("openvino", "onnxruntime", "torch", "torchvision")
    missing = sorted({f"{e['precision']}: {e['reason']}" for e in found["models"] if not e["available"]})
    notes = [f"Medians, with the 10th and 90th percentile. {found['threads']} threads; {measured_on(found, packages)}"]
    notes += [f"Not measured: {text}." for text in missing]
    return markdown(header, rows) + "\n\n" + "\n".join(notes)


def cuda_peers(results: Path) -> str | None:
    """Every model and batch on a GPU: milliseconds of all, images a second, and the ratio."""
    found = load(results, "cuda_peers")
    if found is None:
        return None
    rows, speedups = [], []
    for cell in found["cells"]:
        times = cell["times"]
        peers = {name: time for name, time in times.items() if name != "trine"}
        if "trine" not in times or not peers:
            continue
        best = min(peers, key=lambda name, peers=peers: peers[name]["median_ms"])
        mine, theirs = times["trine"], peers[best]
        speedups.append(theirs["median_ms"] / mine["median_ms"])
        rows.append(
            [
                f"{cell['model']}, batch {cell['batch']}",
                _milliseconds(mine),
                f"{cell['batch'] / mine['median_ms'] * 1e3:,.0f}",
                _milliseconds(theirs),
                best,
                f"**{speedups[-1]:.2f}**",
                f"{cell['trine_relative_error']:.1e}",
                f"{cell['eager_relative_error']:.1e}",
            ]
        )
    mean = statistics.geometric_mean(speedups)
    hardware, versions = found["hardware"], found["versions"]
    header = (
        *("model", "trine, ms", "images/s", "best peer, ms", "which", "times faster"),
        *("trine's error", "PyTorch fp16's"),
    )
    notes = (
        f"Medians, with the 10th and 90th percentile. Geometric mean of the {len(rows)} rows: {mean:.2f} times faster; "
        f"the lowest {min(speedups):.2f}. Errors: largest difference from PyTorch in fp32 over the largest answer.\n"
        f"{hardware['gpu']}; torch {versions['torch']}, triton {versions['triton']}, CUDA {versions['cuda']}, "
        f"cuDNN {versions['cudnn']}; {found['date']}."
    )
    return markdown(header, rows) + "\n\n" + notes


def cuda_trine(results: Path) -> str | None:
    """trine by itself on a GPU: milliseconds, images a second, and the sum of its groups' floors."""
    found = load(results, "cuda_trine")
    if found is None:
        return None
    floors = {
        (cell["model"], bucket["rows"]): bucket["floor_us"] / 1e3
        for cell in found["cells"]
        if cell["build"]
        for bucket in cell["build"]["buckets"]
    }
    cells = sorted(found["cells"], key=lambda cell: (cell["model"], cell["batch"]))
    rows = [
        [
            f"{cell['model']}, batch {cell['batch']}",
            _milliseconds(cell["times"]["trine"]),
            f"{cell['batch'] / cell['times']['trine']['median_ms'] * 1e3:,.0f}",
            f"{floors[cell['model'], cell['batch']]:.3f}",
            f"{cell['trine_relative_error']:.1e}",
            f"{cell['eager_relative_error']:.1e}",
        ]
        for cell in cells
    ]
    header = ("model", "trine, ms", "images/s", "floor, ms", "trine's error", "PyTorch fp16's")
    failed = f"\nFailed in that run: {', '.join(sorted(found['failures']))}." if found["failures"] else ""
    return f"{markdown(header, rows)}\n\n{found['hardware']['gpu']}; {found['date']}.{failed}"


def cuda_sizes(results: Path) -> str | None:
    """Engine files for GPUs beside their networks' weights."""
    found = load(results, "cuda_sizes")
    if found is None:
        return None
    rows = [
        [
            row["network"],
            f"{row['fp16_weight_bytes'] / 1e6:,.1f}",
            f"{row['file_bytes'] / 1e6:,.1f}",
            f"**{row['file_bytes'] / row['fp16_weight_bytes']:.2f}**",
            f"{row['kernels']}",
            f"{row['live_bytes'] / 1e6:,.1f}",
            f"{row['arena_bytes'] / row['live_bytes']:.2f}",
        ]
        for row in found["rows"]
    ]
    header = (
        *("network", "fp16 weights, MB", "engine file, MB", "times the weights", "kernels"),
        *(f"largest live set at {found['buckets'][-1]}, MB", "memory for activations, times that"),
    )
    return f"{markdown(header, rows)}\n\nFor {found['target']}, buckets for {found['buckets']} rows; {found['date']}."


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
        lines.append(f"| `{name}` | {line['fault']} | {_cell(line['reason'] or line['error'][:120])} |")
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
        f"- {name}, {'trine' if which == 'trine' else 'NVIDIA'}: {_cell(cell['error'][:150])}"
        for name, row in found["rows"].items()
        for which, cell in row.items()
        if "error" in cell
    ]
    table = markdown(("converted", "trine's torch2trt", "NVIDIA's converters over trine"), rows)
    reasons = "\n\nThose that fail:\n\n" + "\n".join(failed) if failed else ""
    run_on = measured_on(found, ("openvino", "onnxruntime", "torch", "torchvision"))
    return f"{table}{reasons}\n\nRun on {run_on}"


def _milliseconds(time: dict[str, Any]) -> str:
    return f"{time['median_ms']:.3f} ({time['p10_ms']:.3f}-{time['p90_ms']:.3f})"


def call_overhead(results: Path) -> str | None:
    """What a call of trine adds to the backend's own."""
    found = load(results, "cpu_peers")
    if found is None or not found["call_overhead"]:
        return None
    rows = [
        [
            entry["tactic"],
            f"{min(t['median_ms'] for c, t in entry['times'].items() if c.startswith('backend')) * 1e3:.1f}",
            *(f"{entry['added_us'][call]:+.1f}" for call in ("engine(x)", "context.execute")),
        ]
        for entry in found["call_overhead"]
    ]
    return markdown(("backend", "its own call, µs", "`engine(x)` adds, µs", "`context.execute` adds, µs"), rows)


def cold_start(results: Path) -> str | None:
    """From a new process to its first answer."""
    found = load(results, "cold_start")
    if found is None:
        return None
    rows = []
    for entry in found["models"]:
        seconds = {kind: f"{time['median_ms'] / 1e3:.2f}" for kind, time in entry["times"].items()}
        rows.append(
            [
                entry["model"],
                *(seconds[kind] for kind in ("trine", "trine tiered", "pytorch", "pytorch tuned")),
                *(f"**{entry['times_sooner'][kind]:.1f}x**" for kind in ("trine", "trine tiered")),
            ]
        )
    header = ("model", "trine, s", "tiered, s", "PyTorch, s", "PyTorch tuned, s", "trine is sooner", "tiered is sooner")
    note = f"Medians of {found['rounds']} processes each; {measured_on(found, ('torch', 'torchvision'))}"
    return markdown(header, rows) + "\n\n" + note


def summary(results: Path) -> str | None:
    """README's: one line for each thing measured."""
    makers = (_sweep, _speed, _overhead, _start, _onnx_suite, _torch2trt, _fuzz)
    rows = [row for make in makers if (row := make(results)) is not None]
    return markdown(("measured", "result"), rows) if rows else None


def _torch2trt(results: Path) -> list[str] | None:
    found = load(results, "torch2trt_suite")
    if found is None:
        return None
    passed = f"{found['outcomes']['passed']} of {found['tests']} pass"
    return ["[NVIDIA's torch2trt](docs/compat-torch2trt.md), unmodified, over trine: its own tests", passed]


def _sweep(results: Path) -> list[str] | None:
    found = load(results, "sweep_import")
    if found is None:
        return None
    parts = [f"{passed} of {run} {library}" for library, passed, run, _ in _counts(found, results)]
    return ["classifiers imported, built, and within 1e-4 of PyTorch at a batch size not seen before", ", ".join(parts)]


def _counts(found: dict[str, Any], results: Path) -> list[tuple[str, int, int, int]]:
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
    counts = [[label, str(passed), str(run), str(total)] for label, passed, run, total in _counts(found, results)]
    text = markdown(("networks", "passed", "run", "in all"), counts)
    misses = [
        f"| {name} | {_cell(entry['reason'])} |" for name, entry in found["results"].items() if not entry["passed"]
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
                "works" if sample["status"] == "pass" else _cell(f"no: {sample['why'] or sample['reason']}")
            )
    table = markdown(
        ("sample", *versions),
        [[name, *(cells[version] for version in versions)] for name, cells in sorted(rows.items())],
    )
    others = [f"| {name} | {reason} |" for name, reason in sorted(found["not_run"].items())]
    tail = "\n".join(["| not run | why, judging by what it needs |", "| --- | --- |", *others])
    packages = ("openvino", "onnxruntime", "torch", "torchvision")
    return f"{table}\n\n{tail}\n\nRun on {measured_on(found, packages)}"


def _cell(text: str, limit: int = 300) -> str:
    """``text`` on one line of a table."""
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _speed(results: Path) -> list[str] | None:
    found = load(results, "cpu_peers")
    if found is None:
        return None
    known = [entry for entry in found["models"] if entry["available"]]
    if not known:
        return None
    ratios = [entry["ratio"] for entry in known]
    models = len({entry["model"] for entry in known})
    return [
        f"time per call over the faster of plain ONNX Runtime and OpenVINO, {models} classifiers, batch 1 and 8",
        f"{min(ratios):.2f} to {max(ratios):.2f}, median {sorted(ratios)[len(ratios) // 2]:.2f}",
    ]


def _overhead(results: Path) -> list[str] | None:
    found = load(results, "cpu_peers")
    if found is None or not found["call_overhead"]:
        return None
    added = [value for entry in found["call_overhead"] for value in entry["added_us"].values()]
    return ["added by trine to a backend's own call", f"at most {max(added):.0f} µs"]


def _start(results: Path) -> list[str] | None:
    found = load(results, "cold_start")
    if found is None:
        return None
    plain, tiered = ([entry["times_sooner"][kind] for entry in found["models"]] for kind in ("trine", "trine tiered"))
    return [
        "first answer of a new process, sooner than PyTorch eager",
        f"{min(plain):.1f}x to {max(plain):.1f}x; with `tiered=True` {min(tiered):.1f}x to {max(tiered):.1f}x",
    ]


def _onnx_suite(results: Path) -> list[str] | None:
    found = load(results, "onnx_backend_suite")
    if found is None:
        return None
    statuses = [test["status"] for test in found["tests"]]
    wrong, rounding = statuses.count("wrong"), statuses.count("rounding")
    return [
        "ONNX's own backend tests",
        f"{statuses.count('pass'):,} of {len(statuses):,} pass, {wrong} wrong answers, "
        f"{rounding} outside the suite's tolerance by rounding",
    ]


def _fuzz(results: Path) -> list[str] | None:
    found = load(results, "fuzz_engine_file")
    if found is None:
        return None
    return [
        "damaged engine files read: any crash, hang, wrong exception or excess memory",
        f"{found['broken_rules']} in {found['files']:,}",
    ]


TABLES: dict[str, Callable[[Path], str | None]] = {
    "summary": summary,
    "cpu-peers": cpu_peers,
    "call-overhead": call_overhead,
    "cold-start": cold_start,
    "cuda-peers": cuda_peers,
    "cuda-trine": cuda_trine,
    "cuda-sizes": cuda_sizes,
    "tensorrt-build": tensorrt_build,
    "torch2trt-errors": torch2trt_errors,
    "tensorrt-verdicts": tensorrt_verdicts,
    "torch2trt-suite": torch2trt_suite,
    "nvidia-samples": nvidia_samples,
    "coverage": coverage,
    "coverage-models": coverage_models,
}


if __name__ == "__main__":
    sys.exit(main())
