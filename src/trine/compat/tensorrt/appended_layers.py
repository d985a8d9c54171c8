"""Layers that a program adds to a network which the ONNX parser filled.

They are ``trine.network``'s, in a network that is written into the parsed model's graph: its tensors stand in for the
model's values. Read ``AppendedLayers.write``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network import Network
from trine.network.assembly import Assembler, Scope
from trine.network.tensor import Facts, Tensor

__all__ = ["AppendedLayers"]


class AppendedLayers:
    """What was added to a parsed model, and how it is joined with it."""

    def __init__(self, opset: int) -> None:
        self.network = Network("added", opset=opset)
        self._places: dict[Any, Tensor] = {}  # the model's values that layers use, and what stands for each
        self.rewired: dict[tuple[int, int], Tensor] = {}  # node and input: the added tensor that it reads instead

    def stand_in(self, value: Any) -> Tensor:
        """The tensor that stands for one of the model's values; what ONNX cannot tell of it stays unknown."""
        if value not in self._places:
            facts = Facts(value.dtype, value.shape)
            self._places[value] = Tensor(self.network, facts, name=value.name, outer=ir.Value(name=value.name))
        return self._places[value]

    def refresh(self) -> None:
        """Take over what is known of the model's values now, for the layers that use them."""
        for value, place in self._places.items():
            self.network._set_facts(place, Facts(value.dtype, value.shape))

    def original(self, tensor: Any) -> Any:
        """The model's value that ``tensor`` stands for, or ``tensor`` itself."""
        return next((value for value, place in self._places.items() if place is tensor), tensor)

    def write(self, model: onnx.ModelProto, outputs: Sequence[Any], facts: Mapping[str, Any]) -> onnx.ModelProto:
        """A new model: the parsed one with the layers, rewired, with ``outputs`` as its outputs.

        Raises ConfigError where a layer is not finished, a name is used twice, or a layer would wait for itself.
        """
        joined = ir.from_proto(model)
        graph = joined.graph
        nodes = list(graph)
        values = _values(graph)
        assembler = Assembler(self.network, set(values) | {node.name for node in graph.all_nodes() if node.name})
        scope = Scope(None, None)
        for value, place in self._places.items():
            scope.values[place] = values[value.name]
        for tensor in self.network.inputs:
            assembler.reserve(tensor.name)
            added = tensor._facts.apply(ir.Value(name=tensor.name))
            scope.values[tensor] = added
            graph.inputs.append(added)
        mine = [output for output in outputs if isinstance(output, Tensor)]
        found = dict(zip(mine, assembler.require(mine, scope), strict=True))
        for (number, at), tensor in self.rewired.items():
            nodes[number].replace_input_with(at, assembler.require([tensor], scope)[0])
        ends = []
        for output in outputs:
            if isinstance(output, Tensor):
                node = ir.node("Identity", [found[output]], name=assembler.name(f"{output.name}/output"))
                scope.nodes.append(node)
                end = node.outputs[0]
                if found[output].name == output.name:
                    found[output].name = assembler.name(f"{output.name}_value")
                elif output.name in values:
                    raise ConfigError(f"two tensors are called {output.name!r}; rename one")
                end.name = output.name
                ends.append(output._facts.apply(end))
            else:
                ends.append(_declared(values[output.name], facts.get(output.name)))
        graph.outputs[:] = ends
        for value in assembler.initializers:
            graph.register_initializer(value)
        graph.extend(scope.nodes)
        joined.opset_imports.update(
            {name: n for name, n in self.network.domains.items() if name not in joined.opset_imports}
        )
        try:
            graph.sort()
        except ValueError as err:
            raise ConfigError("a layer's input depends on its own output; check the last set_input calls") from err
        return ir.to_proto(joined)


def _declared(value: ir.Value, fact: tuple[tuple[int | str, ...] | None, DataType | None] | None) -> ir.Value:
    shape, dtype = fact or (None, None)
    if value.dtype is None or value.shape is None:
        return Facts(dtype, shape).apply(value)
    return value


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    """The values of the main graph, by name."""
    found = {value.name: value for value in graph.inputs if value.name} | dict(graph.initializers)
    for node in graph:
        found.update((value.name, value) for value in node.outputs if value.name)
    return found
