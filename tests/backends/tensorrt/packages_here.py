"""NVIDIA's TensorRT for RTX, whose builder needs no GPU; tests that want it are skipped where it cannot be had."""

from __future__ import annotations

import pytest

from trine.errors import MissingDependencyError
from trine.runtime.tensorrt.packages import TensorRT, installed_tensorrt


def _here() -> tuple[TensorRT | None, str]:
    try:
        return installed_tensorrt(), ""
    except MissingDependencyError as err:
        return None, str(err)


_PACKAGE, _WHY_NOT = _here()

# For one test. The reason has the install command.
needs_tensorrt = pytest.mark.skipif(_PACKAGE is None, reason=_WHY_NOT or "is here")


def tensorrt_or_skip() -> TensorRT:
    """Skips the whole module without it."""
    if _PACKAGE is None:
        pytest.skip(_WHY_NOT, allow_module_level=True)
    return _PACKAGE
