"""TensorRTExecutor: a plan of TensorRT's on a GPU. TensorRT runs it; memory, stream and copies are trine's.

Written to TensorRT 10's API, which 11 and TensorRT for RTX share. It has been run against a recording driver only: no
machine at hand has a GPU that the packages at hand support.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from trine.engine.manifest import TensorInfo
from trine.errors import BuildError, DeviceError, DeviceLostError, EngineFormatError, InputError, NoDeviceError
from trine.runtime.cuda.gpu_driver import GpuDriver
from trine.runtime.executor import ENGINE_CLOSED
from trine.runtime.tensorrt.messages import Messages
from trine.runtime.tensorrt.packages import TensorRT
from trine.runtime.tensorrt.plan import TENSORRT_PLAN, TensorRTPlan
from trine.runtime.tensorrt.tensor_types import differing_tensors

__all__ = ["TensorRTExecutor", "TensorRTSession"]


class TensorRTExecutor:
    """A deserialised plan, shared by all sessions."""

    def __init__(
        self,
        plan: TensorRTPlan,
        package: TensorRT,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        driver: GpuDriver,
    ) -> None:
        """Raises NoDeviceError, with TensorRT's reasons, when it does not take the plan here: another version wrote it,
        or it does not support the GPU. EngineFormatError when the plan's tensors are not the manifest's."""
        self.plan, self.driver = plan, driver
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.messages = Messages(package.module, keep=100)
        self._sessions: weakref.WeakSet[TensorRTSession] = weakref.WeakSet()
        with driver.current:
            try:
                # The runtime is kept: an engine must not outlive it.
                self._runtime: Any = package.module.Runtime(self.messages.logger)
                self.engine: Any = self._runtime.deserialize_cuda_engine(plan.data)
            except (TypeError, RuntimeError) as err:  # what its bindings raise where the library gives no object
                raise self._refused(package, str(err)) from err
        if self.engine is None:
            raise self._refused(package, "")
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        problems = differing_tensors((*self.inputs, *self.outputs), names, self.engine.get_tensor_dtype)
        if problems:
            self.close()
            raise EngineFormatError(f"not of this engine: {'; '.join(problems)}", f"plan/{TENSORRT_PLAN}")

    def _refused(self, package: TensorRT, text: str) -> NoDeviceError:
        reasons = "; ".join(part for part in (" ".join(text.split()), self.messages.errors()) if part)
        return NoDeviceError(
            f"{package.name} {package.version} does not take the plan, which {self.plan.package} {self.plan.version} "
            f"wrote, on {self.driver.name} (sm_{self.driver.capability}): {reasons}. Build it here, with this version, "
            'or load the engine with device="cpu"'
        )

    @property
    def device(self) -> str:
        """As ``load`` takes it."""
        return "tensorrt"

    def open_session(self) -> TensorRTSession:
        """A context of TensorRT's, with memory and a stream of its own. Raises DeviceError when TensorRT gives none."""
        with self.driver.current:
            session = TensorRTSession(self)
        self._sessions.add(session)
        return session

    def close(self) -> None:
        """Free everything, sessions included."""
        for session in list(self._sessions):
            session.close()
        with contextlib.suppress(DeviceLostError), self.driver.current:
            self.engine = self._runtime = None

    def __del__(self) -> None:
        if getattr(self, "engine", None) is not None and not sys.is_finalizing():
            with contextlib.suppress(DeviceError):
                self.close()


class TensorRTSession:
    """One caller's context, stream and device memory. Not to be shared between threads at one time."""

    writes_in_place = False
    where = "by TensorRT"  # for the message to callers with arrays on the GPU

    def __init__(self, executor: TensorRTExecutor) -> None:
        self._executor, self._driver = executor, executor.driver
        self._memory: dict[str, tuple[int, int]] = {}  # by tensor: address, bytes
        self._context: Any = executor.engine.create_execution_context()
        if self._context is None:
            raise DeviceError(f"TensorRT gives no execution context: {executor.messages.errors()}")
        self._stream: Any = self._driver.stream()

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See Session. Raises InputError for shapes that the plan does not take, BuildError for an output whose shape
        TensorRT does not know before it has run, DeviceError when it does not start, DeviceMemoryError."""
        executor, context, driver = self._executor, self._context, self._driver
        if context is None:
            raise InputError(ENGINE_CLOSED)
        messages = executor.messages
        messages.clear()
        with driver.current:
            for info, array in zip(executor.inputs, inputs, strict=True):
                if not context.set_input_shape(info.name, tuple(array.shape)):
                    raise InputError(
                        f"input {info.name!r}: TensorRT's plan does not take shape {tuple(array.shape)}: "
                        f"{messages.errors()}"
                    )
            answers = [self._answer(info, given) for info, given in zip(executor.outputs, outputs, strict=True)]
            addresses = []
            for info, array in zip((*executor.inputs, *executor.outputs), (*inputs, *answers), strict=True):
                addresses.append(self._room(info.name, array.nbytes))
                if not context.set_tensor_address(info.name, addresses[-1]):
                    raise DeviceError(f"TensorRT does not take memory for {info.name!r}: {messages.errors()}")
            try:
                for array, address in zip(inputs, addresses, strict=False):  # the outputs' follow
                    driver.upload(address, int(array.ctypes.data), array.nbytes, self._stream)
                if not context.execute_async_v3(int(self._stream)):
                    raise DeviceError(f"TensorRT does not run the plan: {messages.errors()}")
                for answer, address in zip(answers, addresses[len(inputs) :], strict=True):
                    driver.download(int(answer.ctypes.data), address, answer.nbytes, self._stream)
            finally:  # no copy may be under way when the caller's arrays go
                driver.synchronize(self._stream)
        return answers

    def _answer(self, info: TensorInfo, given: np.ndarray | None) -> np.ndarray:
        """Memory for an output of the shape that TensorRT says, once it has those of the inputs."""
        shape = tuple(int(dim) for dim in self._context.get_tensor_shape(info.name))
        if any(dim < 0 for dim in shape):
            raise BuildError(
                f"output {info.name!r} has shape {shape}: it depends on values, and has no memory before they are "
                'known; load the engine with device="cpu"'
            )
        return np.empty(shape, info.dtype.numpy) if given is None else given

    def _room(self, name: str, nbytes: int) -> int:
        """Device memory for a tensor, at least this large; what was there may be freed, as no call is running."""
        address, size = self._memory.pop(name, (0, -1))
        if nbytes > size:
            if address:
                self._driver.free(address)
            address, size = self._driver.allocate(nbytes, f"tensor {name!r}"), nbytes
        self._memory[name] = address, size
        return address

    def close(self) -> None:
        """Free the session's memory."""
        if self._context is None:
            return
        with contextlib.suppress(DeviceLostError), self._driver.current:
            self._driver.synchronize(self._stream)
            self._context = None
            while self._memory:
                self._driver.free(self._memory.popitem()[1][0])
            self._driver.destroy_stream(self._stream)

    def __del__(self) -> None:
        if getattr(self, "_context", None) is not None and not sys.is_finalizing():
            with contextlib.suppress(DeviceError):
                self.close()
