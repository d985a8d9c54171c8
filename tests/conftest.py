"""For every test: one PyTorch thread a process, and no GPU test runs where there is no GPU."""

from __future__ import annotations

import ctypes.util
import os

import pytest

# Before anything loads OpenMP. The tests run in several processes: more threads than cores slow them down.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu, with the reason, where the NVIDIA driver is missing."""
    if ctypes.util.find_library("cuda"):
        return
    no_gpu = pytest.mark.skip(reason="needs an NVIDIA GPU; no CUDA driver (libcuda) on this machine")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(no_gpu)
