"""A stand-in for a TensorRT package over the recording driver: every plan doubles its input.

No machine of the project's has a GPU that TensorRT for RTX supports; so this shows what trine asks of TensorRT, and
that its memory is in order, not that TensorRT answers.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        return address % 256 == 0  # as TensorRT wants it

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def execute_async_v3(self, stream: int) -> bool:
        assert stream in self.driver.handles
        count = int(np.prod(self.shapes["x"]))
        x = self.driver.array(self.addresses["x"], np.float32, count)
        self.driver.array(self.addresses["y"], np.float32, count)[:] = 2 * x
        return True


class Engine:
    def __init__(self, driver: RecordingDriver, tensors: Mapping[str, str], most_rows: int) -> None:
        self.driver, self.tensors, self.most_rows = driver, dict(tensors), most_rows
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.tensors[name])

    def create_execution_context(self) -> Context:
        return Context(self.driver, self.most_rows)


TENSORS = {"x": "FLOAT", "y": "FLOAT"}


def package(
    driver: RecordingDriver,
    tensors: Mapping[str, str] = TENSORS,
    most_rows: int = 8,
    refuses: str = "",
    capabilities: tuple[int, ...] = (),
) -> TensorRT:
    """``refuses``: what it logs rather than take a plan. ``capabilities``: those that it lists; () for no list."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, data: Any) -> Engine | None:
            assert bytes(data) == b"plan"
            if refuses:
                self.logger.log(SimpleNamespace(name="ERROR"), refuses)
                return None
            return Engine(driver, tensors, most_rows)

    module = SimpleNamespace(ILogger=Logger, Runtime=Runtime)
    if capabilities:
        members = {"NONE": 0, "CURRENT": 1} | {f"SM{number}": number for number in capabilities}
        module.ComputeCapability = SimpleNamespace(__members__=members)
    return TensorRT("tensorrt_rtx", "1.7", module)
