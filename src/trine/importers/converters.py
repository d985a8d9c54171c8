"""User converters: a named function becomes one opaque node while tracing, then layers of the user's choice.

::

    @trine.converter("torch.nn.ReLU.forward")
    def convert_relu(ctx):
        layer = ctx.network.add_activation(ctx.tensor(ctx.method_args[1]), "RELU")
        ctx.set_output(ctx.method_return, layer.get_output(0))

``ctx.method_args`` and ``method_kwargs`` are what the function was called with (for a method, the module comes
first), ``method_return`` what it returned. Tensors among them that flow through the graph hold no values (they
are on the meta device, with the shape of the example); weights are the real ones. Each has ``_trt``, its tensor
of the network, and setting ``_trt`` on a returned one is the older spelling of ``set_output``.

The original still runs once while tracing, to know its output's shapes, so it must be traceable; where another
converted function is called inside it, only the outer converter is used.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trine.errors import ConfigError

if TYPE_CHECKING:
    from trine.importers.conversion import ConversionContext

__all__ = [
    "ConverterFunction",
    "active",
    "converter",
    "converters_scope",
    "resolve",
    "unregister",
]

ConverterFunction = Callable[["ConversionContext"], None]

_registered: dict[str, ConverterFunction] = {}


def converter(name: str) -> Callable[[ConverterFunction], ConverterFunction]:
    """Registers the decorated function for calls of ``name``, "torch.nn.ReLU.forward" or "my_package.my_function".

    Works for methods of modules, for functions looked up on their module when called, and for PyTorch's own
    operators ("torch.relu", "torch.Tensor.relu"). A later registration replaces an earlier one. Raises
    ConfigError when nothing has that name.
    """
    resolve(name)

    def register(function: ConverterFunction) -> ConverterFunction:
        _registered[name] = function
        return function

    return register


def unregister(name: str) -> None:
    """Removes a converter. Raises ConfigError when there is none for ``name``."""
    if name not in _registered:
        raise ConfigError(f"no converter is registered for {name!r}; registered: {sorted(_registered)}")
    del _registered[name]


@contextlib.contextmanager
def converters_scope() -> Iterator[None]:
    """What is registered inside the ``with`` is forgotten after it."""
    saved = dict(_registered)
    try:
        yield
    finally:
        _registered.clear()
        _registered.update(saved)


def active(extra: Mapping[str, ConverterFunction] | None = None) -> dict[str, ConverterFunction]:
    """The registered converters and ``extra``, which win. Raises ConfigError for unknown names."""
    for name in extra or {}:
        resolve(name)
    return {**_registered, **(extra or {})}


def resolve(name: str) -> tuple[Any, str]:
    """The module or class that holds the function called ``name``, and its attribute."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError as err:
            if err.name and ".".join(parts[:count]).startswith(err.name):
                continue
            raise
        try:
            for part in parts[count:-1]:
                owner = getattr(owner, part)
            found = getattr(owner, parts[-1])
        except AttributeError:
            break
        if not callable(found) or isinstance(found, type):
            raise ConfigError(f"converter {name!r}: expected a function or method, got {type(found).__name__}")
        return owner, parts[-1]
    raise ConfigError(
        f"converter {name!r}: nothing has that name; give an importable path such as 'torch.nn.ReLU.forward'"
    )
