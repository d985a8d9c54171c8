"""The writing side of converters: each recorded call's node gives way to what its converter writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import torch

from trine.errors import ModelImportError, TrineError
from trine.importers.converters import ConverterFunction
from trine.importers.interception import DOMAIN, RecordedCall, Slot, fill, slots_of
from trine.network import Network, Tensor
from trine.network.tensor import Facts

__all__ = ["ConversionContext", "write_layers"]


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
        if node.domain == DOMAIN:
            call = calls[node.attributes["index"].as_int()]
            _write_one(model, node, call, converters[call.name])
            used[call.name] = None
    model.opset_imports.pop(DOMAIN, None)
    return list(used)


def _write_one(model: ir.Model, node: ir.Node, call: RecordedCall, function: ConverterFunction) -> None:
    network = Network.inside(model)
    slots = slots_of((call.args, call.kwargs))
    given = [_argument(value, slot, network) for value, slot in zip(node.inputs, slots, strict=True)]
    returned = [torch.empty(slot.shape, dtype=slot.dtype, device="meta") for slot in slots_of(call.returned)]
    context = ConversionContext(
        call.name, fill(call.args, given), fill(call.kwargs, given), fill(call.returned, returned), network
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
    chosen = []
    for index, (value, tensor) in enumerate(zip(node.outputs, returned, strict=True)):
        made = context._outputs.get(id(tensor), getattr(tensor, "_trt", None))
        if made is None:
            raise ModelImportError(
                f"converter {call.name!r} set no tensor for output {index} of the call; "
                "end it with ctx.set_output(ctx.method_return, tensor)"
            )
        _check_type(call.name, index, value, made)
        chosen.append(made)
    for value, new in zip(node.outputs, network.write_before(node, chosen), strict=True):
        _take_over(model, node, value, new)
    model.graph.remove(node, safe=True)


def _check_type(name: str, index: int, declared: ir.Value, made: Tensor) -> None:
    """Raises ModelImportError where dtype or shape are known to differ from what the function returned."""
    wanted = Facts.of(declared, "dim")
    shape, got = wanted.shape or (), made.shape
    fits = got is None or (
        len(got) == len(shape)
        and all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(got, shape, strict=True))
    )
    if not fits or made.dtype not in (None, wanted.dtype):
        raise ModelImportError(
            f"converter {name!r}: output {index} of the call is {made.dtype and made.dtype.value}{list(got or ())}; "
            f"the function returned {wanted.dtype and wanted.dtype.value}{list(shape)}. Mend the converter"
        )


def _argument(value: ir.Value | None, slot: Slot, network: Network) -> torch.Tensor:
    """A weight as it is; anything else as a meta tensor of the example's shape."""
    assert value is not None
    tensor: torch.Tensor
    if value.const_value is not None and isinstance(getattr(value.const_value, "raw", None), torch.Tensor):
        tensor = value.const_value.raw.detach()
    else:
        tensor = torch.empty(slot.shape, dtype=slot.dtype, device="meta")
    tensor._trt = network.wrap(value)  # type: ignore[attr-defined]
    return tensor


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
