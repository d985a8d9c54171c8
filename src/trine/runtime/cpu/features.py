"""What this CPU is and which precisions it computes in."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

__all__ = ["cpu_flags", "cpu_model", "usable_cores"]


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty where there is none (not Linux)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    entries: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        entries[key.strip()] = value.strip()
    return entries


def cpu_model() -> str:
    """A name for this CPU, such as "AMD EPYC 7543 family 25 model 1"; timings are kept under it."""
    info = _cpuinfo()
    if "model name" in info:
        return f"{info['model name']} family {info.get('cpu family', '?')} model {info.get('model', '?')}"
    return platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """The instruction-set flags that the kernel reports; empty where it reports none."""
    info = _cpuinfo()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
