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
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import torch
from torch.overrides import TorchFunctionMode

from trine.errors import ConfigError, ModelImportError, TrineError
from trine.network import Network, Tensor

__all__ = [
    "ConversionContext",
    "ConverterFunction",
    "RecordedCall",
    "active",
    "converter",
    "converters_scope",
    "intercepted",
    "unregister",
    "write_layers",
]

ConverterFunction = Callable[["ConversionContext"], None]

_DOMAIN = "trine.converter"
_registered: dict[str, ConverterFunction] = {}


def converter(name: str) -> Callable[[ConverterFunction], ConverterFunction]:
    """Registers the decorated function for calls of ``name``, "torch.nn.ReLU.forward" or "my_package.my_function".

    Works for methods of modules, for functions looked up on their module when called, and for PyTorch's own
    operators ("torch.relu", "torch.Tensor.relu"). A later registration replaces an earlier one. Raises
    ConfigError when nothing has that name.
    """
    _resolve(name)

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
        _resolve(name)
    return {**_registered, **(extra or {})}


def _resolve(name: str) -> tuple[Any, str]:
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


@dataclass(frozen=True)
class _Slot:
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
        slots = (_replace(args, inputs), _replace(kwargs, inputs), _replace(returned, outputs))
        if not outputs:
            raise ModelImportError(
                f"converter {name!r}: the function returned no tensor, so there is nothing to replace"
            )
        made = torch.onnx.ops.symbolic_multi_out(
            f"{_DOMAIN}::Call",
            inputs,
            {"index": len(self.calls)},
            dtypes=[tensor.dtype for tensor in outputs],
            shapes=[tensor.shape for tensor in outputs],
            version=1,
        )
        self.calls.append(RecordedCall(name, *slots))
        return _fill(slots[2], list(made))


def _replace(value: Any, tensors: list[torch.Tensor]) -> Any:
    """``value`` with a slot for each tensor, which are appended to ``tensors``."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        shape = tuple(_hint(dim) for dim in value.shape)
        return _Slot(len(tensors) - 1, shape, value.dtype)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_replace(item, tensors) for item in value))
    if isinstance(value, tuple | list):
        return type(value)([_replace(item, tensors) for item in value])
    if isinstance(value, dict):
        return {key: _replace(item, tensors) for key, item in value.items()}
    return value


def _hint(dim: Any) -> int:
    """The example's size of a dim."""
    return int(dim.node.hint) if isinstance(dim, torch.SymInt) else int(dim)


def _fill(value: Any, tensors: Sequence[Any]) -> Any:
    """The inverse of ``_replace``."""
    if isinstance(value, _Slot):
        return tensors[value.index]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_fill(item, tensors) for item in value))
    if isinstance(value, tuple | list):
        return type(value)([_fill(item, tensors) for item in value])
    if isinstance(value, dict):
        return {key: _fill(item, tensors) for key, item in value.items()}
    return value


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
            owner, attribute = _resolve(name)
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


@dataclass
class ConversionContext:
    """What a converter sees of one call, and where it writes."""

    method_str: str
    method_args: tuple[Any, ...]
    method_kwargs: dict[str, Any]
    method_return: Any
    network: Network
    _tensors: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _outputs: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _alive: list[torch.Tensor] = field(default_factory=list, repr=False)

    def tensor(self, value: Any) -> Tensor:
        """The network's tensor for an argument; a constant for a weight, a number or an array."""
        if isinstance(value, Tensor):
            return value
        if id(value) not in self._tensors:
            if isinstance(value, torch.Tensor):
                if value.is_meta:
                    raise ModelImportError(
                        f"converter {self.method_str!r}: ctx.tensor got a tensor that holds no values and is no "
                        "argument of the call; use ctx.method_args, or build it with ctx.network"
                    )
                self._alive.append(value)
                self._tensors[id(value)] = self.network.add_constant(value.detach()).get_output(0)
            else:
                return self.network.add_constant(value).get_output(0)
        return self._tensors[id(value)]

    def set_output(self, returned: torch.Tensor, tensor: Tensor) -> None:
        """Makes ``tensor`` the graph's answer for ``returned``, a tensor of ``method_return``."""
        if not isinstance(tensor, Tensor):
            raise ModelImportError(
                f"converter {self.method_str!r}: set_output wants a tensor of the network, got "
                f"{type(tensor).__name__}; for a layer, pass layer.get_output(0)"
            )
        self._outputs[id(returned)] = tensor


def write_layers(
    model: ir.Model, calls: Sequence[RecordedCall], converters: Mapping[str, ConverterFunction]
) -> list[str]:
    """Runs the converter of each recorded call in place of its node. Returns the names used, each once.

    Raises ModelImportError that names the converter, for whatever goes wrong inside one.
    """
    used: dict[str, None] = {}
    for node in list(model.graph):
        if node.domain == _DOMAIN:
            call = calls[node.attributes["index"].as_int()]
            _write_one(model, node, call, converters[call.name])
            used[call.name] = None
    model.opset_imports.pop(_DOMAIN, None)
    return list(used)


def _write_one(model: ir.Model, node: ir.Node, call: RecordedCall, function: ConverterFunction) -> None:
    network = Network(model, before=node)
    slots = _slots_of((call.args, call.kwargs))
    given = [_argument(value, slot, network) for value, slot in zip(node.inputs, slots, strict=True)]
    returned = [torch.empty(slot.shape, dtype=slot.dtype, device="meta") for slot in _slots_of(call.returned)]
    context = ConversionContext(
        call.name, _fill(call.args, given), _fill(call.kwargs, given), _fill(call.returned, returned), network
    )
    for tensor in given:
        context._tensors[id(tensor)] = tensor._trt  # type: ignore[attr-defined]
        context._alive.append(tensor)
    try:
        function(context)
    except TrineError:
        raise
    except Exception as err:  # the user's function
        raise ModelImportError(
            f"converter {call.name!r} raised {type(err).__name__}: {err}. Mend the converter, or unregister it"
        ) from err
    for index, (value, tensor) in enumerate(zip(node.outputs, returned, strict=True)):
        made = context._outputs.get(id(tensor), getattr(tensor, "_trt", None))
        if made is None:
            raise ModelImportError(
                f"converter {call.name!r} set no tensor for output {index} of the call; "
                "end it with ctx.set_output(ctx.method_return, tensor)"
            )
        _take_over(model, node, value, made.value)
    model.graph.remove(node, safe=True)


def _argument(value: ir.Value | None, slot: _Slot, network: Network) -> torch.Tensor:
    """A weight as it is; anything else as a meta tensor of the example's shape."""
    assert value is not None
    tensor: torch.Tensor
    if value.const_value is not None and isinstance(getattr(value.const_value, "raw", None), torch.Tensor):
        tensor = value.const_value.raw.detach()
    else:
        tensor = torch.empty(slot.shape, dtype=slot.dtype, device="meta")
    tensor._trt = network.wrap(value)  # type: ignore[attr-defined]
    return tensor


def _slots_of(value: Any) -> list[_Slot]:
    if isinstance(value, _Slot):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [slot for item in value for slot in _slots_of(item)] if isinstance(value, tuple | list) else []


def _take_over(model: ir.Model, node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    """Every use of ``old`` reads ``new``; the declared type stays, unless the network knew a wrong one."""
    if new.producer() is None or new in node.inputs or new.is_graph_output():
        copy = ir.node("Identity", [new])  # an input or weight cannot itself be another output
        model.graph.insert_before(node, copy)
        new = copy.outputs[0]
    new.type = new.type or old.type
    new.shape = old.shape
    for output, current in enumerate(model.graph.outputs):
        if current is old:
            new.name, old.name = old.name, f"{old.name}__replaced"
            model.graph.outputs[output] = new
    old.replace_all_uses_with(new)
