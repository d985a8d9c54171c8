"""A stand-in for a TensorRT package over the recording driver: every plan doubles its input.

No machine of the project's has a GPU that TensorRT for RTX supports; so this shows what trine asks of TensorRT, and
that its memory is in order, not that TensorRT answers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from runtime.cuda.recording_driver import RecordingDriver

from trine.runtime.tensorrt.packages import TensorRT


class Logger:
    def __init__(self) -> None:
        pass


class Context:
    def __init__(self, driver: RecordingDriver, most_rows: int) -> None:
        self.driver, self.most_rows = driver, most_rows
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = self.shapes["y"] = shape
        return shape[0] <= self.most_rows

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def execute_async_v3(self, stream: int) -> bool:
        assert stream in self.driver.handles
        count = int(np.prod(self.shapes["x"]))
        x = self.driver.array(self.addresses["x"], np.float32, count)
        self.driver.array(self.addresses["y"], np.float32, count)[:] = 2 * x
        return True


class Engine:
    def __init__(self, driver: RecordingDriver, names: tuple[str, ...], most_rows: int) -> None:
        self.driver, self.names, self.most_rows = driver, names, most_rows
        self.num_io_tensors = len(names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def create_execution_context(self) -> Context:
        return Context(self.driver, self.most_rows)


def package(
    driver: RecordingDriver, names: tuple[str, ...] = ("x", "y"), most_rows: int = 8, refuses: str = ""
) -> TensorRT:
    """``refuses``: what it logs rather than take a plan."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, data: Any) -> Engine | None:
            assert bytes(data) == b"plan"
            if refuses:
                self.logger.log(SimpleNamespace(name="ERROR"), refuses)
                return None
            return Engine(driver, names, most_rows)

    return TensorRT("tensorrt_rtx", "1.7", SimpleNamespace(ILogger=Logger, Runtime=Runtime))
