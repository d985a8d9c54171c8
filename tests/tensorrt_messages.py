"""The logger of the tests of TensorRT's names."""

from __future__ import annotations

from typing import Any

import trine.compat.tensorrt as trt


class Messages(trt.ILogger):
    """Keeps errors and warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def log(self, severity: Any, msg: str) -> None:
        """Keep one."""
        if severity <= trt.Logger.ERROR:
            self.errors.append(msg)
        elif severity == trt.Logger.WARNING:
            self.warnings.append(msg)
