"""Importing OpenVINO without its telemetry."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

__all__ = ["import_openvino"]

_TELEMETRY = "openvino_telemetry"
_one_at_a_time = threading.Lock()


def import_openvino() -> Any:
    """The openvino module. Raises ImportError where it is not installed.

    ``import openvino`` by itself reports to Google Analytics from a forked process, writes into the user's home, and
    takes 0.1 s for that. It does without where the package ``openvino_telemetry`` cannot be imported, and so it
    cannot while OpenVINO is. A process that imported either of the two before has decided for itself.
    """
    with _one_at_a_time:
        if "openvino" in sys.modules or _TELEMETRY in sys.modules:
            import openvino

            return openvino
        loaded: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
        loaded[_TELEMETRY] = None  # Python's own way to make an import fail
        try:
            import openvino
        finally:
            del sys.modules[_TELEMETRY]
        return openvino
