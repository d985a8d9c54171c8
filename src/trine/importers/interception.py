"""The tracing side of converters: calls of a converted function become opaque nodes, and are recorded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from trine.errors import ModelImportError
from trine.importers.converters import ConverterFunction, resolve

__all__ = ["DOMAIN", "RecordedCall", "Slot", "fill", "intercepted", "slots_of"]

DOMAIN = "trine.converter"


@dataclass(frozen=True)
class Slot:
    """Stands for the tensor number ``index`` in a recorded call."""

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class RecordedCall:
    """One call of a converted function, its tensors replaced by slots."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    returned: Any


class _Interceptor:
    """Wraps functions so that a call becomes one node; knows when it is inside of one already."""

    def __init__(self, calls: list[RecordedCall]) -> None:
        self.calls = calls
        self._inside = threading.local()

    def call(self, name: str, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if getattr(self._inside, "busy", False) or not torch.compiler.is_exporting():
            return original(*args, **kwargs)
        self._inside.busy = True
        try:
            returned = original(*args, **kwargs)
        finally:
            self._inside.busy = False
        inputs: list[torch.Tensor] = []
        outputs: list[torch.Tensor] = []
        slots = (replace(args, inputs), replace(kwargs, inputs), replace(returned, outputs))
        if not outputs:
            raise ModelImportError(
                f"converter {name!r}: the function returned no tensor, so there is nothing to replace"
            )
        made = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::Call",
            inputs,
            {"index": len(self.calls)},
            dtypes=[tensor.dtype for tensor in outputs],
            shapes=[tensor.shape for tensor in outputs],
            version=1,
        )
        self.calls.append(RecordedCall(name, *slots))
        return fill(slots[2], list(made))


def replace(value: Any, tensors: list[torch.Tensor]) -> Any:
    """``value`` with a slot for each tensor, which are appended to ``tensors``."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        shape = tuple(_hint(dim) for dim in value.shape)
        return Slot(len(tensors) - 1, shape, value.dtype)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replace(item, tensors) for item in value))
    if isinstance(value, tuple | list):
        return type(value)([replace(item, tensors) for item in value])
    if isinstance(value, dict):
        return {key: replace(item, tensors) for key, item in value.items()}
    return value


def _hint(dim: Any) -> int:
    """The example's size of a dim."""
    return int(dim.node.hint) if isinstance(dim, torch.SymInt) else int(dim)


def fill(value: Any, tensors: Sequence[Any]) -> Any:
    """The inverse of ``_replace``."""
    if isinstance(value, Slot):
        return tensors[value.index]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(fill(item, tensors) for item in value))
    if isinstance(value, tuple | list):
        return type(value)([fill(item, tensors) for item in value])
    if isinstance(value, dict):
        return {key: fill(item, tensors) for key, item in value.items()}
    return value


def slots_of(value: Any) -> list[Slot]:
    """The slots in ``value``, in the order in which ``replace`` met their tensors."""
    if isinstance(value, Slot):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [slot for item in value for slot in slots_of(item)] if isinstance(value, tuple | list) else []


class _OperatorMode(TorchFunctionMode):
    """Intercepts PyTorch's own operators, which are built in and cannot be patched."""

    def __init__(self, interceptor: _Interceptor, names: Mapping[Any, str]) -> None:
        super().__init__()
        self._interceptor = interceptor
        self._names = names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = self._names.get(func)
        if name is None:
            return func(*args, **(kwargs or {}))
        return self._interceptor.call(name, func, args, kwargs or {})


@contextlib.contextmanager
def intercepted(active_converters: Mapping[str, ConverterFunction]) -> Iterator[list[RecordedCall]]:
    """While open, calls of the converted functions are traced as opaque nodes and recorded."""
    calls: list[RecordedCall] = []
    interceptor = _Interceptor(calls)
    operators: dict[Any, str] = {}
    with contextlib.ExitStack() as stack:
        for name in active_converters:
            owner, attribute = resolve(name)
            if owner is torch.Tensor or getattr(owner, "__name__", "") in ("torch", "torch.nn.functional"):
                operators[getattr(owner, attribute)] = name
            else:
                stack.enter_context(_patched(interceptor, name, owner, attribute))
        if operators:
            stack.enter_context(_OperatorMode(interceptor, operators))
        yield calls


@contextlib.contextmanager
def _patched(interceptor: _Interceptor, name: str, owner: Any, attribute: str) -> Iterator[None]:
    original = getattr(owner, attribute)
    had_own = attribute in vars(owner)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return interceptor.call(name, original, args, kwargs)

    raw = vars(owner).get(attribute)
    setattr(owner, attribute, staticmethod(wrapper) if isinstance(raw, staticmethod) else wrapper)
    try:
        yield
    finally:
        if had_own:
            setattr(owner, attribute, raw)
        else:
            delattr(owner, attribute)
