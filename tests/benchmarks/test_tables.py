from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tables import fill

ROOT = Path(__file__).resolve().parents[2]

MACHINE: dict[str, Any] = {
    "date": "2026-01-31",
    "hardware": {"cpu": "A CPU", "cores": 2, "memory_gib": 8, "instruction_sets": ["avx2", "fma"]},
    "system": "Linux x86_64",
    "python": "3.11.0",
    "versions": {"openvino": "1", "onnxruntime": "2", "torch": "3", "torchvision": "4"},
}


def time(ms: float) -> dict[str, float]:
    return {"median_ms": ms, "p10_ms": ms * 0.9, "p90_ms": ms * 1.1, "min_ms": ms * 0.8, "calls": 10}


def write_results(folder: Path) -> None:
    model = {"model": "net", "precision": "fp32", "batch": 1}
    times = {"trine": 9.0, "openvino": 10.5, "openvino latency": 10.0, "onnxruntime": 20.0}
    peers = {
        **MACHINE,
        "threads": 2,
        "models": [
            {
                **model,
                "available": True,
                "tactic": "openvino",
                "times": {n: time(t) for n, t in times.items()},
                "ratio": 0.9,
            },
            {**model, "precision": "bf16", "available": False, "reason": "this CPU does not compute in bf16"},
        ],
        "call_overhead": [
            {
                "tactic": "openvino",
                "times": {"backend": time(0.02)},
                "added_us": {"engine(x)": 12.0, "context.execute": 9.0},
            }
        ],
    }
    start = {
        **MACHINE,
        "rounds": 3,
        "models": [
            {
                "model": "net",
                "times": {
                    "trine": time(500),
                    "trine tiered": time(400),
                    "pytorch": time(4000),
                    "pytorch tuned": time(3000),
                },
                "times_sooner": {"trine": 6.0, "trine tiered": 7.5},
            }
        ],
    }
    (folder / "cpu_peers.json").write_text(json.dumps(peers))
    (folder / "cold_start.json").write_text(json.dumps(start))


def page(name: str) -> str:
    return f"before\n<!-- table:{name} -->\nold\n<!-- /table -->\nafter\n"


def test_tables_are_filled(tmp_path: Path) -> None:
    write_results(tmp_path)
    peers = fill(page("cpu-peers"), tmp_path)
    assert "| net, fp32, batch 1 | 9.0 (8.1-9.9) | 20.0 (18.0-22.0) | 10.0 (9.0-11.0) | **0.90** | openvino |" in peers
    assert "Not measured: bf16: this CPU does not compute in bf16." in peers
    assert peers.startswith("before\n<!-- table:cpu-peers -->\n| model |")
    assert peers.endswith("<!-- /table -->\nafter\n")
    assert "| openvino | 20.0 | +12.0 | +9.0 |" in fill(page("call-overhead"), tmp_path)
    assert "| net | 0.50 | 0.40 | 4.00 | 3.00 | **6.0x** | **7.5x** |" in fill(page("cold-start"), tmp_path)
    text = fill(page("summary"), tmp_path)
    assert "0.90 to 0.90" in text
    assert "at most 12 µs" in text
    assert fill(text, tmp_path) == text  # a second time changes nothing


def test_unknown_names_and_unmeasured_tables_stay(tmp_path: Path) -> None:
    for name in ("somebody-elses", "cpu-peers", "cold-start", "summary", "call-overhead"):
        assert fill(page(name), tmp_path) == page(name)


def test_the_tables_in_the_docs_are_those_of_the_results() -> None:
    for path in [ROOT / "README.md", ROOT / "docs" / "performance.md"]:
        text = path.read_text(encoding="utf-8")
        assert fill(text) == text, f"{path.name}: run python benchmarks/tables.py"
