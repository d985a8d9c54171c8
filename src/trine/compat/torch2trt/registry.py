"""User converters by torch2trt's names, on top of ``trine.converter``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import trine
from trine.compat.torch2trt.networks import OfferedNetwork, tensors_in, trine_tensor
from trine.errors import ConfigError, UnsupportedError
from trine.importers.converters import converters_scope, resolve

__all__ = ["CONVERTERS", "ConversionContext", "get_arg", "registered", "tensorrt_converter"]

log = logging.getLogger("trine")

UserConverter = Callable[["ConversionContext"], None]

# As in torch2trt, a dict by name that programs look into: {"converter": function, "is_real": bool, ...}.
CONVERTERS: dict[str, dict[str, Any]] = {}


@dataclass
class ConversionContext:
    """What a converter sees of one call.

    ``method_args`` and ``method_kwargs`` are the call's; for a method the module comes first. Tensors among them that
    flow through the network, and those of ``method_return``, hold no values: they have the example's shape and dtype,
    and ``_trt``, the network's tensor. The converter sets ``_trt`` on what was returned. Weights are the real ones.
    """

    network: Any
    method_args: tuple[Any, ...]
    method_kwargs: dict[str, Any]
    method_return: Any
    method_str: str
    torch2trt_kwargs: Mapping[str, Any]
    lock: bool = True


def get_arg(ctx: ConversionContext, name: str, pos: int, default: Any) -> Any:
    """The call's argument ``name``, whether it was given by name or as number ``pos``; else ``default``."""
    if name in ctx.method_kwargs:
        return ctx.method_kwargs[name]
    return ctx.method_args[pos] if len(ctx.method_args) > pos else default


def tensorrt_converter(
    method: str | Callable[..., Any], is_real: bool = True, enabled: bool = True, imports: Sequence[str] = ()
) -> Callable[[UserConverter], UserConverter]:
    """Registers the decorated function for calls of ``method``, "torch.nn.ReLU.forward" or a function itself.

    ``is_real=False``: the function only watches in torch2trt, so here it is kept in CONVERTERS and not called.
    ``enabled=False``: it is not registered. ``imports`` has no effect, as in torch2trt. A name that this PyTorch does
    not have is skipped with a logged warning. Raises ConfigError for what is no name of a function.
    """
    name = method if isinstance(method, str) else _qualified(method)
    if enabled:
        try:
            resolve(name)
        except ConfigError as err:
            if "nothing has that name" not in str(err) or not name.startswith(("torch.", "torchvision.")):
                raise
            log.warning("the converter for %r is not used: %s", name, err)
            enabled = False

    def register(function: UserConverter) -> UserConverter:
        if enabled:
            CONVERTERS[name] = {"converter": function, "is_real": is_real, "method_str": name}
        return function

    return register


def _qualified(function: Any) -> str:
    """The path of a function; PyTorch's own operators do not know theirs, so it is looked for."""
    name = getattr(function, "__name__", "")
    home = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    for path in (home, f"torch.{name}", f"torch.Tensor.{name}", f"torch.nn.functional.{name}"):
        with contextlib.suppress(ConfigError):
            owner, attribute = resolve(path)
            if getattr(owner, attribute) == function:
                return path
    raise ConfigError(
        f"tensorrt_converter: {function!r} does not say where it lives; give its path as text, such as 'torch.relu'"
    )


@contextlib.contextmanager
def registered(torch2trt_kwargs: Mapping[str, Any]) -> Iterator[list[str]]:
    """While open, trine converts with CONVERTERS; what is registered with trine itself stays. Gives their names."""
    with converters_scope():
        names = [name for name, entry in CONVERTERS.items() if entry["is_real"]]
        for name in names:
            trine.converter(name)(_adapted(CONVERTERS[name]["converter"], torch2trt_kwargs))
        yield names


def _adapted(function: UserConverter, torch2trt_kwargs: Mapping[str, Any]) -> Any:
    """``function`` as a converter of trine."""

    def convert(ctx: Any) -> None:
        network = OfferedNetwork(ctx.network)
        for tensor in tensors_in((ctx.method_args, ctx.method_kwargs)):
            if hasattr(tensor, "_trt"):
                tensor._trt = network.offer(tensor._trt)
        seen = ConversionContext(
            network, ctx.method_args, ctx.method_kwargs, ctx.method_return, ctx.method_str, torch2trt_kwargs
        )
        function(seen)
        if seen.method_return is not ctx.method_return:
            raise UnsupportedError(
                f"converter {ctx.method_str!r} replaced ctx.method_return; set _trt on the tensors in it instead"
            )
        for tensor in tensors_in(ctx.method_return):
            if hasattr(tensor, "_trt"):
                ctx.set_output(tensor, trine_tensor(tensor._trt, ctx.method_str))

    return convert
