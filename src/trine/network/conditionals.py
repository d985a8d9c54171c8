"""Conditionals: layers through which values go in and come out, and the ONNX node that a conditional becomes.

The network itself stays flat: a branch is what its output needs of the conditional's inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network.assembly import Assembler, BoundaryLayer, Scope
from trine.network.layer import Layer
from trine.network.operations import LayerType
from trine.network.tensor import Facts, Tensor
from trine.network.writer import Writer

if TYPE_CHECKING:
    from trine.network.network import Network

__all__ = ["IfConditional"]


class ConditionLayer(BoundaryLayer):
    """The condition of a conditional, a 0-D bool. It has no output."""

    kind = LayerType.CONDITION

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Only to check."""
        if w.dtype(inputs[0]) is not DataType.BOOL or w.rank(inputs[0]) != 0:
            raise w.error(f"the condition is a 0-D bool, got {w.dtype(inputs[0]).value} {w.dims(inputs[0])}")
        return []


class ConditionalInputLayer(BoundaryLayer):
    """What the branches see of a tensor outside."""

    kind = LayerType.CONDITIONAL_INPUT

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Only for types and shapes: a copy."""
        return [w.op("Identity", inputs[0])]


class ConditionalOutputLayer(BoundaryLayer):
    """Input 0 where the condition is true, else input 1. They have one dtype and one rank."""

    kind = LayerType.CONDITIONAL_OUTPUT
    max_inputs: ClassVar[int] = 2

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Only for types and shapes: dims that differ are not known before running."""
        a, b = inputs
        if w.dtype(a) is not w.dtype(b) or w.rank(a) != w.rank(b):
            raise w.error(
                f"both branches give one dtype and rank, got {w.dtype(a).value} {w.dims(a)} and {w.dtype(b).value} "
                f"{w.dims(b)}"
            )
        made = w.op("Identity", a)
        made.shape = ir.Shape([x if x == y else None for x, y in zip(w.dims(a), w.dims(b), strict=True)])
        return [made]


class IfConditional:
    """A part of the network of which one of two branches is run. Made by ``network.add_if_conditional()``."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.name = network._auto_name("conditional")
        self.condition: ConditionLayer | None = None
        self.inputs: list[ConditionalInputLayer] = []
        self.outputs: list[ConditionalOutputLayer] = []

    @property
    def where(self) -> str:
        """How errors call it."""
        return f"conditional {self.name!r}"

    @property
    def entries(self) -> list[Layer]:
        """The inputs."""
        return list(self.inputs)

    @property
    def exits(self) -> list[Layer]:
        """The outputs."""
        return list(self.outputs)

    def set_condition(self, condition: Tensor) -> ConditionLayer:
        """What decides: a 0-D bool tensor."""
        layer = self._network._add(ConditionLayer(self._network, [condition], self, outputs=0))
        self.condition = layer
        return layer

    def add_input(self, input: Tensor) -> ConditionalInputLayer:  # noqa: A002  # TensorRT's name for it
        """A tensor that the branches use. What depends on it is run only when its branch is taken."""
        layer = self._network._add(ConditionalInputLayer(self._network, [input], self))
        self.inputs.append(layer)
        return layer

    def add_output(self, true_subgraph_output: Tensor, false_subgraph_output: Tensor) -> ConditionalOutputLayer:
        """What the rest of the network sees: the first tensor where the condition is true, else the second."""
        tensors = [true_subgraph_output, false_subgraph_output]
        layer = self._network._add(ConditionalOutputLayer(self._network, tensors, self))
        self.outputs.append(layer)
        return layer

    def write_into(self, assembler: Assembler, scope: Scope) -> None:
        """One ONNX If."""
        if self.condition is None:
            raise ConfigError(f"{self.where} has no condition; give it with set_condition(tensor)")
        condition = assembler.require(self.condition.dependencies(), scope)[0]
        outside = assembler.require([layer.dependencies()[0] for layer in self.inputs], scope)
        branches = []
        for index, label in enumerate(("then", "else")):
            branch = Scope(scope, self)
            for layer, value in zip(self.inputs, outside, strict=True):
                branch.values[layer.get_output(0)] = value
            ends = []
            for value in assembler.require([layer.dependencies()[index] for layer in self.outputs], branch):
                copy = assembler.node(branch, "Identity", [value], [Facts.of(value, self.name)], f"{self.name}/{label}")
                ends.append(copy[0])
            graph = ir.Graph([], ends, nodes=branch.nodes, name=assembler.name(f"{self.name}_{label}"))
            branches.append(ir.AttrGraph(f"{label}_branch", graph))
        facts = [layer.get_output(0)._facts for layer in self.outputs]
        values = assembler.node(scope, "If", [condition], facts, self.name, branches)
        for output, value in zip(self.outputs, values, strict=True):
            scope.values[output.get_output(0)] = value
