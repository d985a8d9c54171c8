"""Tables of time: on CPUs, on NVIDIA GPUs, beside peers."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from table_text import load, markdown, measured_on, milliseconds

__all__ = ["call_overhead", "cold_start", "cpu_peers", "cuda_build", "cuda_peers", "cuda_sizes"]


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


def cuda_peers(results: Path) -> str | None:
    """Every model and batch on a GPU: milliseconds of all, images a second, and the ratio."""
    found = load(results, "cuda_peers")
    if found is None:
        return None
    rows, speedups = [], []
    floors = {
        (cell["model"], bucket["rows"]): bucket["floor_us"] / 1e3
        for cell in found["cells"]
        if cell["build"]
        for bucket in cell["build"]["buckets"]
    }
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
                milliseconds(mine),
                f"{floors[cell['model'], cell['batch']]:.3f}",
                f"{cell['batch'] / mine['median_ms'] * 1e3:,.0f}",
                milliseconds(theirs),
                best.removesuffix(" reduce-overhead").removesuffix(", CUDA graph"),
                f"**{speedups[-1]:.2f}**",
                f"{cell['trine_relative_error']:.1e}",
                f"{cell['eager_relative_error']:.1e}",
            ]
        )
    mean = statistics.geometric_mean(speedups)
    dates = sorted({cell.get("date", found["date"]) for cell in found["cells"]})
    hardware, versions = found["hardware"], found["versions"]
    header = (
        *("model", "trine, ms", "floor, ms", "images/s", "best peer, ms", "which", "times faster"),
        *("trine's error", "PyTorch fp16's"),
    )
    notes = (
        f"Medians, with the 10th and 90th percentile. Geometric mean of the {len(rows)} rows: {mean:.2f} times faster; "
        f"the lowest {min(speedups):.2f}. Errors: largest difference from PyTorch in fp32 over the largest answer.\n"
        f"{hardware['gpu']}; torch {versions['torch']}, triton {versions['triton']}, CUDA {versions['cuda']}, "
        f"cuDNN {versions['cudnn']}; {' and '.join(dates)}."
    )
    return markdown(header, rows) + "\n\n" + notes


def cuda_build(results: Path) -> str | None:
    """Builds for the GPU, engine files, and the first answers of new processes."""
    found = load(results, "cuda_build")
    if found is None:
        return None
    firsts = [each["wall"] for each in found["trine_first_answer"]]
    builds = {
        "tuned": "build on the GPU, every candidate compiled and timed, s",
        "tuned_again": "the same build again, with its `timing_cache` and `kernel_cache`, s",
        "shipped_timings": "build with the timings that ship with trine, no kernel compiled before, s",
    }
    rows = [[text, _build_seconds(found[name])] for name, text in builds.items()]
    rows += [
        [
            "engine file over the network's weights in fp16",
            f"{found['tuned']['engine_bytes'] / found['tuned']['fp16_weight_bytes']:.2f}",
        ],
        [
            f"first answer, from the start of a process to its end, s ({len(firsts)} processes)",
            f"{statistics.median(firsts):.2f} ({min(firsts):.2f}-{max(firsts):.2f})",
        ],
    ]
    peers = load(results, "cuda_peers")
    for cell in peers["cells"] if peers else ():
        if (cell["model"], cell["batch"]) == (found["model"], 1):
            label = "torch.compile's first calls, batch 1, in the run above, with other networks beside it, s"
            rows.append([label, f"{cell['compile_seconds']:.1f}"])
    note = (
        f"{found['model']}, buckets for {found['buckets']}, 16 cores; {found['hardware']['gpu']}; "
        f"trine with Triton {found['trine_triton']}; {found.get('dates', {}).get('tuned', found['date'])}."
    )
    return markdown(("measured", "result"), rows) + "\n\n" + note


def _build_seconds(build: dict[str, Any]) -> str:
    stages = ", ".join(f"{stage['name']} {stage['seconds']:.1f}" for stage in build["stages"] if stage["seconds"])
    return f"{build['seconds']:.1f} ({stages})"


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
