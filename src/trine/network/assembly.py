"""From layers to an ONNX graph: what the outputs need, in an order in which it can run.

A network is flat; ONNX puts the bodies of loops and the branches of conditionals into graphs of their own. A
``Structure`` (a loop, a conditional) says which layers are inside of it, and writes itself with the scopes below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import onnx_ir as ir

from trine.errors import ConfigError
from trine.network.layer import Layer
from trine.network.tensor import Facts, Tensor
from trine.network.writer import Writer

if TYPE_CHECKING:
    from trine.network.network import Network

__all__ = ["Assembler", "BoundaryLayer", "Scope", "Structure"]


class Structure(Protocol):
    """A loop or a conditional."""

    @property
    def where(self) -> str:
        """How errors call it."""

    @property
    def entries(self) -> list[Layer]:
        """The layers through which values come in."""

    @property
    def exits(self) -> list[Layer]:
        """The layers whose outputs are outside; the only way out."""

    def write_into(self, assembler: Assembler, scope: Scope) -> None:
        """Writes the whole of it into ``scope``, and says there what its exits' outputs are."""


class BoundaryLayer(Layer):
    """A layer at the border of a structure. ``owner`` is the loop or conditional."""

    def __init__(self, network: Network, inputs: Sequence[Tensor | None], owner: Any, **settings: Any) -> None:
        self.owner = owner
        super().__init__(network, inputs, **settings)


class Scope:
    """A graph that is being written: its nodes, and which value each tensor is."""

    def __init__(self, parent: Scope | None, structure: Structure | None, nodes: list[ir.Node] | None = None) -> None:
        self.parent = parent
        self.structure = structure
        self.nodes: list[ir.Node] = [] if nodes is None else nodes
        self.values: dict[Tensor, ir.Value] = {}

    def find(self, tensor: Tensor) -> ir.Value | None:
        """The value of ``tensor`` here or further out."""
        scope: Scope | None = self
        while scope is not None:
            if tensor in scope.values:
                return scope.values[tensor]
            scope = scope.parent
        return None


class Assembler:
    """Writes the layers of ``network``. ``taken`` are names that the graph has already."""

    def __init__(self, network: Network, taken: Iterable[str] = ()) -> None:
        self.network = network
        self.initializers: list[ir.Value] = []
        self._taken = set(taken)
        self._inside = _insides(network.structures)
        self._exits = {layer: structure for structure in network.structures for layer in structure.exits}

    def require(self, tensors: Sequence[Tensor], scope: Scope) -> list[ir.Value]:
        """The values of ``tensors`` in ``scope``, after writing all that they need. Deep networks need no recursion."""
        waiting = list(reversed(tensors))
        while waiting:
            tensor = waiting.pop()
            if scope.find(tensor) is not None:
                continue
            layer = tensor.layer
            if layer is None:
                raise ConfigError(f"tensor {tensor.name!r} was removed from the network, but is still needed")
            layer.check_finished()
            home = self._home(layer, tensor, scope)
            if home is not scope:
                self.require([tensor], home)
                continue
            if layer in self._exits:
                self._exits[layer].write_into(self, scope)
                continue
            missing = [each for each in layer.dependencies() if scope.find(each) is None]
            if missing:
                waiting.append(tensor)
                waiting.extend(reversed(missing))
                continue
            self._write(layer, scope)
        found = [scope.find(tensor) for tensor in tensors]
        return [value for value in found if value is not None]

    def name(self, wanted: str) -> str:
        """``wanted``, or with a number behind it where that name is taken."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def reserve(self, name: str) -> None:
        """Takes ``name`` for an input or output. Raises ConfigError when it is taken."""
        if name in self._taken:
            raise ConfigError(f"network {self.network.name!r}: two inputs or outputs are called {name!r}; rename one")
        self._taken.add(name)

    def node(
        self, scope: Scope, op_type: str, inputs: Sequence[ir.Value | None], facts: Sequence[Facts], name: str,
        attributes: Sequence[ir.Attr] = (),
    ) -> Sequence[ir.Value]:  # fmt: skip
        """A node of a structure, whose outputs are known already."""
        made = ir.Node("", op_type, inputs, attributes, num_outputs=len(facts), name=self.name(name))
        for index, (value, each) in enumerate(zip(made.outputs, facts, strict=True)):
            value.name = self.name(f"{name}_out_{index}")
            each.apply(value)
        scope.nodes.append(made)
        return made.outputs

    def adopt(self, writer: Writer, scope: Scope) -> None:
        """Puts what ``writer`` wrote into ``scope``, every name made the only one of its kind."""
        for value in writer.constants:
            value.name = self.name(value.name or "constant")
            if value.uses() or value.meta.get("trine.kept"):
                self.initializers.append(value)
        for node in writer.nodes:
            node.name = self.name(node.name or node.op_type)
            for value in node.outputs:
                value.name = self.name(value.name or node.name)
        scope.nodes.extend(writer.nodes)

    def _home(self, layer: Layer, tensor: Tensor, scope: Scope) -> Scope:
        """The scope, from ``scope`` outward, in which ``layer`` belongs."""
        home = scope
        while home.structure is not None and layer not in self._inside[home.structure]:
            assert home.parent is not None
            home = home.parent
        around = set()
        outer: Scope | None = home
        while outer is not None:
            around.add(outer.structure)
            outer = outer.parent
        for structure, inside in self._inside.items():
            if layer in inside and structure not in around:
                raise ConfigError(
                    f"tensor {tensor.name!r} is computed inside of {structure.where}, and used outside of it; only "
                    "the outputs that were added to it lead out"
                )
        return home

    def _write(self, layer: Layer, scope: Scope) -> None:
        writer = Writer(layer.where, layer.name, self.network.opset)
        inputs: list[ir.Value | None] = []
        for index in range(layer.num_inputs):
            tensor = layer.get_input(index)
            inputs.append(None if tensor is None or not layer.waits_for(index) else scope.find(tensor))
        outputs = layer.write(writer, inputs)
        for node in writer.nodes:
            node.name = f"{layer.name}/{node.op_type}"
        if writer.nodes:
            writer.nodes[-1].name = layer.name
        for index, value in enumerate(outputs):
            tensor = layer.get_output(index)
            if value.producer() in writer.nodes:
                value.name = tensor.name
                tensor._facts.apply(value)
            value.meta["trine.kept"] = True
            scope.values[tensor] = value
        self.adopt(writer, scope)


def _insides(structures: Sequence[Structure]) -> dict[Structure, set[Layer]]:
    """The layers inside of each structure: all that depend on its entries, up to its exits, and inner structures."""
    insides = {}
    for structure in structures:
        exits = set(structure.exits)
        inside: set[Layer] = set()
        _reach(structure.entries, exits, inside)
        grown = True
        while grown:
            grown = False
            for other in structures:
                if other is structure or not inside.intersection(other.exits):
                    continue
                before = len(inside)
                _reach(other.entries, exits, inside)
                grown = grown or len(inside) > before
        insides[structure] = inside
    return insides


def _reach(start: Iterable[Layer], stops: set[Layer], found: set[Layer]) -> None:
    waiting = [layer for layer in start if layer not in found]
    found.update(waiting)
    while waiting:
        layer = waiting.pop()
        for index in range(layer.num_outputs):
            for user in layer.get_output(index)._users:
                if user not in stops and user not in found:
                    found.add(user)
                    waiting.append(user)
