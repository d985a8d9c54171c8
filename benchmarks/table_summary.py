"""README's table: one line for each thing measured."""

from __future__ import annotations

import statistics
from pathlib import Path

from table_text import load, markdown
from tables_of_coverage import counts_of

__all__ = ["summary"]


def summary(results: Path) -> str | None:
    """README's: one line for each thing measured."""
    makers = (_sweep, _speed, _overhead, _start, _gpu, _onnx_suite, _torch2trt, _fuzz)
    rows = [row for make in makers if (row := make(results)) is not None]
    return markdown(("measured", "result"), rows) if rows else None


def _sweep(results: Path) -> list[str] | None:
    found = load(results, "sweep_import")
    if found is None:
        return None
    parts = [f"{passed} of {run} {library}" for library, passed, run, _ in counts_of(found, results)]
    return ["classifiers imported, built, and within 1e-4 of PyTorch at a batch size not seen before", ", ".join(parts)]


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


def _gpu(results: Path) -> list[str] | None:
    found = load(results, "cuda_peers")
    if found is None:
        return None
    ratios = []
    for cell in found["cells"]:
        times = {name: time["median_ms"] for name, time in cell["times"].items()}
        mine = times.pop("trine")
        ratios.append(min(times.values()) / mine)
    models = len({cell["model"] for cell in found["cells"]})
    return [
        f"on an {found['hardware']['gpu']}, fp16, {models} classifiers, batches 1 to 128: times as fast as the better "
        "of `torch.compile` and eager in a CUDA graph",
        f"{statistics.geometric_mean(ratios):.2f} (geometric mean), at least {min(ratios):.2f}",
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


def _torch2trt(results: Path) -> list[str] | None:
    found = load(results, "torch2trt_suite")
    if found is None:
        return None
    passed = f"{found['outcomes']['passed']} of {found['tests']} pass"
    return ["[NVIDIA's torch2trt](docs/compat-torch2trt.md), unmodified, over trine: its own tests", passed]


def _fuzz(results: Path) -> list[str] | None:
    found = load(results, "fuzz_engine_file")
    if found is None:
        return None
    return [
        "damaged engine files read: any crash, hang, wrong exception or excess memory",
        f"{found['broken_rules']} in {found['files']:,}",
    ]
