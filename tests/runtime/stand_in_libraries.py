"""CuPy, and PyTorch on a GPU, as far as trine uses them, over a recording driver."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from runtime.cuda.recording_driver import RecordingDriver


class CudaTensor(torch.Tensor):
    """In a driver's memory, and so in the host's; says that it is on a GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    is_cuda = True  # type: ignore[assignment]
    device = torch.device("cuda:0")  # type: ignore[assignment]


class Library:
    """``stream``: the current one. ``made``: (shape, the stream that was current) for each new array. ``room``: whether
    there is memory for any."""

    def __init__(self, driver: RecordingDriver) -> None:
        self.driver, self.stream, self.room = driver, 0, True
        self.made: list[tuple[tuple[int, ...], int]] = []

    @contextlib.contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        before, self.stream = self.stream, stream.cuda_stream
        yield
        self.stream = before

    def memory(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        self.made.append((tuple(shape), self.stream))
        count = int(np.prod(shape))
        with self.driver.current:
            address = self.driver.allocate(count * np.dtype(dtype).itemsize, "a library's array")
        return self.driver.array(address, dtype, count).reshape(shape)


class Torch(Library):
    """Patches torch; ``tensor`` makes one."""

    def __init__(self, driver: RecordingDriver, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(driver)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=self.stream))
        monkeypatch.setattr(torch.cuda, "ExternalStream", self.external)
        monkeypatch.setattr(torch.cuda, "default_stream", lambda device: SimpleNamespace(cuda_stream=0))
        monkeypatch.setattr(torch.cuda, "stream", self.on)
        self.real_empty = torch.empty
        monkeypatch.setattr(torch, "empty", self.empty)

    def external(self, handle: int, device: Any) -> Any:
        return SimpleNamespace(cuda_stream=handle or 4242)  # as PyTorch: a new stream, where there is no handle

    def empty(self, *shape: Any, **options: Any) -> torch.Tensor:
        if options.get("device") != CudaTensor.device:  # PyTorch's own, of fake tensors and such
            return self.real_empty(*shape, **options)
        return self.empty_on_gpu(*shape, options["dtype"])

    def empty_on_gpu(self, shape: tuple[int, ...], dtype: Any) -> torch.Tensor:
        if not self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nSee documentation")
        return self.tensor(np.zeros(shape, str(dtype).removeprefix("torch.")))

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        memory = self.memory(array.shape, array.dtype)
        memory[...] = array
        return torch.from_numpy(memory).as_subclass(CudaTensor)


class Cupy(Library):
    """Puts a module cupy in its place; ``array`` makes one."""

    def __init__(self, driver: RecordingDriver, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(driver)
        library = self

        class Ndarray:
            device = contextlib.nullcontext()

            def __init__(self, memory: np.ndarray) -> None:
                self.memory = memory

            @property
            def __cuda_array_interface__(self) -> dict[str, Any]:
                interface = dict(self.memory.__array_interface__)
                return {**interface, "version": 3, "stream": library.stream or 1}

        class OutOfMemoryError(MemoryError):
            pass

        def empty(shape: tuple[int, ...], dtype: Any) -> Ndarray:
            if not self.room:
                raise OutOfMemoryError("Out of memory allocating 24 bytes")
            return Ndarray(self.memory(shape, dtype))

        def external(handle: int) -> Any:
            return self.on(SimpleNamespace(cuda_stream=handle))

        module: Any = ModuleType("cupy")
        module.ndarray, module.empty = Ndarray, empty
        module.cuda = SimpleNamespace(
            ExternalStream=external, get_current_stream=lambda: SimpleNamespace(ptr=self.stream)
        )
        monkeypatch.setitem(sys.modules, "cupy", module)
        self.kind = Ndarray

    def array(self, array: np.ndarray) -> Any:
        made = self.kind(self.memory(array.shape, array.dtype))
        made.memory[...] = array
        return made
