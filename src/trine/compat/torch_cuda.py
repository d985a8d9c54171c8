"""PyTorch's CUDA calls on a machine without a GPU: ``.cuda()`` and ``device="cuda"`` give tensors in host memory.

Programs for TensorRT keep their inputs on the GPU, and pass ``tensor.data_ptr()``. Where there is no GPU, trine's
engines take host memory; so the calls that would move a tensor to the GPU copy it, as a move does, and streams have
nothing to wait for. ``torch.cuda.is_available()`` stays False, and ``tensor.is_cuda`` too: what is not there is not
made up. Used by ``trine.compat.run`` where CUDA itself is stood in for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import sys
import time
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

__all__ = ["use_host_memory"]

# Functions that make a tensor on the device that they are given.
_FACTORIES = (
    *("empty", "zeros", "ones", "full", "rand", "randn", "randint", "randperm", "arange", "linspace", "eye"),
    *("tensor", "as_tensor", "empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "load"),
)


def use_host_memory() -> None:
    """From now on, in this process. PyTorch is not imported for it: it is changed when the program imports it.

    Nothing happens where PyTorch finds a GPU.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        _change(torch)
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport(importlib.abc.MetaPathFinder):
    """Changes PyTorch as soon as it has been imported, before the program sees it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """PyTorch's own spec, whose loader changes it afterwards."""
        if fullname != "torch":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_change(module: types.ModuleType) -> None:
            execute(module)
            _change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def _change(torch: Any) -> None:
    if torch.cuda.is_available() or hasattr(torch.Tensor.cuda, "__wrapped__"):
        return
    for owner in (torch.Tensor, torch.nn.Module):
        owner.to = _moving(owner.to, copy=owner is torch.Tensor)
        owner.cuda = _staying(owner.cuda, copy=owner is torch.Tensor)
    torch.Tensor.pin_memory = _staying(torch.Tensor.pin_memory, copy=False)  # it is the GPU's driver that pins
    for name in _FACTORIES:
        setattr(torch, name, _on_host(getattr(torch, name)))
    set_default_device = torch.set_default_device
    torch.set_default_device = lambda device: None if _is_cuda(device) else set_default_device(device)
    for name, value in _streams().items():
        setattr(torch.cuda, name, value)


def _is_cuda(device: Any) -> bool:
    """Whether it names a GPU: "cuda", "cuda:1", a ``torch.device`` of that type, or its number."""
    if isinstance(device, str):
        return device.partition(":")[0] == "cuda"
    return type(device) is int or (type(device).__name__ == "device" and device.type == "cuda")


def _on_host(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of PyTorch's that makes tensors on the device it is given by name."""

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        for name in ("device", "map_location"):
            if _is_cuda(options.get(name)):
                options[name] = "cpu"
        return function(*args, **options)

    return called


def _staying(method: Callable[..., Any], copy: bool) -> Callable[..., Any]:
    """``cuda``: a copy of a tensor, as a move to the GPU is; a module is changed in place and stays what it is."""

    @functools.wraps(method)
    def called(self: Any, *args: Any, **options: Any) -> Any:
        return self.clone() if copy else self

    return called


def _moving(method: Callable[..., Any], copy: bool) -> Callable[..., Any]:
    """``to``: as ``cuda`` where it names a GPU; the dtype that it may name too is obeyed."""

    @functools.wraps(method)
    def to(self: Any, *args: Any, **options: Any) -> Any:
        if _is_cuda(options.get("device")):
            options["device"] = "cpu"
        elif args and _is_cuda(args[0]):
            args = ("cpu", *args[1:])
        else:
            return method(self, *args, **options)
        if copy and not args[3:]:  # to(device, dtype, non_blocking, copy)
            options["copy"] = True
        return method(self, *args, **options)

    return to


class Stream:
    """A stream of work that is done when the call returns."""

    cuda_stream = 0
    """Its handle: CUDA's default stream."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def synchronize(self) -> None:
        """There is nothing to wait for."""

    def wait_stream(self, stream: Any) -> None:
        """There is nothing to wait for."""

    def wait_event(self, event: Any) -> None:
        """There is nothing to wait for."""

    def query(self) -> bool:
        """Whether all is done."""
        return True

    def record_event(self, event: Event | None = None) -> Event:
        """The event, or a new one, recorded now."""
        recorded = event or Event()
        recorded.record()
        return recorded


class Event:
    """A moment."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._ms = 0.0

    def record(self, stream: Any = None) -> None:
        """It is now."""
        self._ms = time.perf_counter() * 1e3

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this one to ``end_event``."""
        return end_event._ms - self._ms

    def query(self) -> bool:
        """Whether it has happened."""
        return True

    def synchronize(self) -> None:
        """It has happened."""

    def wait(self, stream: Any = None) -> None:
        """It has happened."""


def _streams() -> dict[str, Any]:
    """torch.cuda's names by which programs time and order what they run. Each is a function of its own: torch.export
    keeps a table of PyTorch's functions, and refuses one that is there under two names."""
    only = Stream()

    def nothing() -> Callable[..., None]:
        return lambda *args, **options: None

    def stream() -> Callable[..., Stream]:
        return lambda *args, **options: only

    def context() -> Callable[..., Any]:
        return lambda value=None: contextlib.nullcontext(value)

    return {
        "Stream": Stream,
        "Event": Event,
        "current_stream": stream(),
        "default_stream": stream(),
        "stream": context(),
        "device": context(),
        "current_device": lambda: 0,
        "synchronize": nothing(),
        "empty_cache": nothing(),
        "set_device": nothing(),
        "init": nothing(),
    }
