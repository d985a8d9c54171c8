"""What a result was measured on and with: hardware, versions, date. Every results file has this beside its
numbers."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from trine.runtime.cpu.features import cpu_flags, cpu_model, usable_cores

__all__ = ["RESULTS", "describe", "write_results"]

RESULTS = Path(__file__).resolve().parent / "results"

PACKAGES = [
    "trine",
    "numpy",
    "openvino",
    "onnxruntime",
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "ml_dtypes",
]
# The ones that decide which kernels a backend picks.
INSTRUCTION_SETS = [
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
]


def describe() -> dict[str, Any]:
    """The machine and the software, as JSON values. Nothing in it tells one machine of a kind from
    another."""
    flags = cpu_flags()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": {
            "cpu": cpu_model(),
            "cores": usable_cores(),
            "memory_gib": _memory_gib(),
            "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        },
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            module = sys.modules.get(package)
            if module is not None and hasattr(module, "__version__"):
                found[package] = str(module.__version__)
    return found


def _memory_gib() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """``describe()`` and ``results`` as JSON, replacing ``path`` whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    text = json.dumps({**describe(), **results}, indent=1, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
    print(f"wrote {path}", file=sys.stderr)
