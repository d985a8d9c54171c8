"""NVIDIA's TensorRT for RTX, whose builder needs no GPU; tests that want it are skipped where it cannot be had."""

from __future__ import annotations

import pytest

from trine.errors import MissingDependencyError
from trine.runtime.tensorrt.packages import TensorRT, installed_tensorrt


def tensorrt_or_skip() -> TensorRT:
    """Skips the whole module without it."""
    try:
        return installed_tensorrt()
    except MissingDependencyError as err:
        pytest.skip(str(err), allow_module_level=True)
