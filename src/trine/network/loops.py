"""Loops: layers through which values go in and come out, and the ONNX node that a loop becomes.

The network itself stays flat: the body of a loop is what depends on its recurrences and iterators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network.assembly import Assembler, BoundaryLayer, Scope
from trine.network.layer import Layer
from trine.network.operations import LayerType, LoopOutput, TripLimit, member
from trine.network.settings import Setting, choice, flag, whole
from trine.network.tensor import Facts, Tensor
from trine.network.writer import Writer

if TYPE_CHECKING:
    from trine.network.network import Network

__all__ = ["Loop"]


class RecurrenceLayer(BoundaryLayer):
    """A value that each iteration replaces: input 0 is the first one, input 1 the next one, set with ``set_input``."""

    kind = LayerType.RECURRENCE
    max_inputs: ClassVar[int] = 2

    def waits_for(self, index: int) -> bool:
        """The next value is computed from this one."""
        return index == 0

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Only for types and shapes: as the first value."""
        if len(inputs) > 1 and inputs[1] is not None and w.dtype(inputs[1]) is not w.dtype(inputs[0]):
            raise w.error(
                f"the next value is {w.dtype(inputs[1]).value}, the first one {w.dtype(inputs[0]).value}; use add_cast"
            )
        if len(inputs) > 1 and inputs[1] is not None and w.rank(inputs[1]) != w.rank(inputs[0]):
            raise w.error(f"the next value is {w.dims(inputs[1])}, the first one {w.dims(inputs[0])}")
        return [w.op("Identity", inputs[0])]


class IteratorLayer(BoundaryLayer):
    """The slice of a tensor, along ``axis``, that belongs to the iteration; from the last one on if ``reverse``."""

    kind = LayerType.ITERATOR

    axis = Setting(whole(), 0)
    reverse = Setting(flag, False)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Only for types and shapes: as slice 0."""
        return [self.slice(w, inputs[0], w.constant(np.int64(0), "first"))]

    def slice(self, w: Writer, value: ir.Value, index: ir.Value) -> ir.Value:
        """Slice ``index`` of ``value``."""
        return w.op("Gather", value, index, axis=w.axis(self.axis, w.rank(value)))


class TripLimitLayer(BoundaryLayer):
    """What ends a loop: a number of iterations, from outside, or a condition, from inside. It has no output."""

    kind = LayerType.TRIP_LIMIT

    limit = Setting(choice(TripLimit))

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Only to check."""
        wanted = (DataType.BOOL,) if self.limit is TripLimit.WHILE else (DataType.INT32, DataType.INT64)
        if w.dtype(inputs[0]) not in wanted or w.rank(inputs[0]) != 0:
            raise w.error(
                f"{self.limit.name} takes a 0-D tensor of {' or '.join(t.value for t in wanted)}, got "
                f"{w.dtype(inputs[0]).value} {w.dims(inputs[0])}"
            )
        return []


class LoopOutputLayer(BoundaryLayer):
    """What leaves a loop. CONCATENATE and REVERSE join the values of all iterations along a new ``axis``.

    Input 1 of those is how many there will be; the output has as many as there were iterations.
    """

    kind = LayerType.LOOP_OUTPUT
    max_inputs: ClassVar[int] = 2

    output_kind = Setting(choice(LoopOutput), LoopOutput.LAST_VALUE)
    axis = Setting(whole(0), 0)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Only for types and shapes."""
        if self.output_kind is LoopOutput.LAST_VALUE:
            tensor = self._inputs[0]
            if tensor is None or tensor.layer not in self.owner.recurrences:
                raise w.error(f"LAST_VALUE is of a recurrence of {self.owner.where}; use CONCATENATE for other tensors")
            return [w.op("Identity", inputs[0])]
        if self.axis > w.rank(inputs[0]):
            raise w.error(f"axis {self.axis} is out of range for an output of {w.rank(inputs[0]) + 1} dimensions")
        made = w.op("Unsqueeze", inputs[0], w.ints([self.axis]))
        dims = list(w.dims(made))
        length = w.contents(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else None
        limited = any(layer.limit is TripLimit.WHILE for layer in self.owner.trip_limits)
        dims[self.axis] = length[0] if length and not limited else None
        made.shape = ir.Shape(dims)
        return [made]


class Loop:
    """A part of the network that is run several times. Made by ``network.add_loop()``."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.name = network._auto_name("loop")
        self.recurrences: list[RecurrenceLayer] = []
        self.iterators: list[IteratorLayer] = []
        self.trip_limits: list[TripLimitLayer] = []
        self.outputs: list[LoopOutputLayer] = []

    @property
    def where(self) -> str:
        """How errors call it."""
        return f"loop {self.name!r}"

    @property
    def entries(self) -> list[Layer]:
        """Recurrences and iterators."""
        return [*self.recurrences, *self.iterators]

    @property
    def exits(self) -> list[Layer]:
        """The outputs."""
        return list(self.outputs)

    def add_recurrence(self, initial_value: Tensor) -> RecurrenceLayer:
        """A value that starts as ``initial_value``; say with ``set_input(1, tensor)`` what it becomes."""
        layer = self._network._add(RecurrenceLayer(self._network, [initial_value], self))
        self.recurrences.append(layer)
        return layer

    def add_iterator(self, tensor: Tensor, axis: int = 0, reverse: bool = False) -> IteratorLayer:
        """The slices of ``tensor`` along ``axis``, one for each iteration."""
        layer = self._network._add(IteratorLayer(self._network, [tensor], self, axis=axis, reverse=reverse))
        self.iterators.append(layer)
        return layer

    def add_trip_limit(self, tensor: Tensor, kind: TripLimit | str) -> TripLimitLayer:
        """Ends the loop after COUNT iterations, or WHILE ``tensor`` is true at an iteration's start."""
        limit = member(TripLimit, kind, self.where)
        if any(layer.limit is limit for layer in self.trip_limits):
            raise ConfigError(f"{self.where} has a trip limit of kind {limit.name} already")
        layer = self._network._add(TripLimitLayer(self._network, [tensor], self, limit=limit, outputs=0))
        self.trip_limits.append(layer)
        return layer

    def add_loop_output(self, tensor: Tensor, kind: LoopOutput | str, axis: int = 0) -> LoopOutputLayer:
        """What the rest of the network sees: a recurrence's last value, or all values of a tensor, joined."""
        made = LoopOutputLayer(self._network, [tensor], self, output_kind=kind, axis=axis)
        layer = self._network._add(made)
        self.outputs.append(layer)
        return layer

    def write_into(self, assembler: Assembler, scope: Scope) -> None:
        """One ONNX Loop."""
        limits = {layer.limit: layer.dependencies()[0] for layer in self.trip_limits}
        if not limits:
            raise ConfigError(f"{self.where} has no trip limit; add one with add_trip_limit")
        for layer in self.recurrences:
            if layer.num_inputs < 2 or layer.get_input(1) is None:
                raise ConfigError(f"{self.where}: {layer.where} has no next value; give it with set_input(1, tensor)")
        count = None
        if TripLimit.COUNT in limits:
            count = self._int64(assembler, scope, assembler.require([limits[TripLimit.COUNT]], scope)[0])
        initial = assembler.require([layer.dependencies()[0] for layer in self.recurrences], scope)
        condition = limits.get(TripLimit.WHILE)
        first = None if condition is None else self._condition(assembler, scope, scope.nodes, condition, initial)

        body = Scope(scope, self)
        iteration = self._value(assembler, "iteration", Facts(DataType.INT64, ()))
        go_on = self._value(assembler, "condition", Facts(DataType.BOOL, ()))
        carried = []
        for layer in self.recurrences:
            carried.append(self._value(assembler, layer.name, layer.get_output(0)._facts))
            body.values[layer.get_output(0)] = carried[-1]
        for iterator in self.iterators:
            body.values[iterator.get_output(0)] = self._slice(assembler, body, iterator, iteration, count)
        following = assembler.require([self._next(layer) for layer in self.recurrences], body)
        if condition is None:
            answer = self._copy(assembler, body, go_on, Facts(DataType.BOOL, ()))
        else:
            answer = self._condition(assembler, scope, body.nodes, condition, following)
        joined = [layer for layer in self.outputs if layer.output_kind is not LoopOutput.LAST_VALUE]
        scanned = assembler.require([layer.dependencies()[0] for layer in joined], body)
        # A body's outputs are all different values that its own nodes make.
        ends = [self._copy(assembler, body, value, Facts.of(value, self.name)) for value in [*following, *scanned]]
        graph = ir.Graph(
            [iteration, go_on, *carried],
            [self._copy(assembler, body, answer, Facts(DataType.BOOL, ())), *ends],
            nodes=body.nodes,
            name=assembler.name(f"{self.name}_body"),
        )
        facts = [layer.get_output(0)._facts for layer in self.recurrences] + [Facts()] * len(joined)
        values = assembler.node(
            scope, "Loop", [count, first, *initial], facts, self.name, [ir.AttrGraph("body", graph)]
        )
        for output in self.outputs:
            if output.output_kind is LoopOutput.LAST_VALUE:
                source = output.dependencies()[0].layer
                at = next(i for i, each in enumerate(self.recurrences) if each is source)
                scope.values[output.get_output(0)] = values[at]
        for index, output in enumerate(joined):
            value = values[len(self.recurrences) + index]
            scope.values[output.get_output(0)] = self._joined(assembler, scope, output, value)

    def _next(self, layer: RecurrenceLayer) -> Tensor:
        tensor = layer.get_input(1)
        assert tensor is not None
        return tensor

    def _condition(
        self, assembler: Assembler, scope: Scope, nodes: list[ir.Node], tensor: Tensor, values: Sequence[ir.Value]
    ) -> ir.Value:
        """The WHILE condition, computed among ``nodes`` for these values of the recurrences."""
        inner = Scope(scope, self, nodes)
        for layer, value in zip(self.recurrences, values, strict=True):
            inner.values[layer.get_output(0)] = value
        return assembler.require([tensor], inner)[0]

    def _value(self, assembler: Assembler, label: str, facts: Facts) -> ir.Value:
        return facts.apply(ir.Value(name=assembler.name(f"{self.name}/{label}")))

    def _copy(self, assembler: Assembler, scope: Scope, value: ir.Value, facts: Facts) -> ir.Value:
        return assembler.node(scope, "Identity", [value], [facts], f"{self.name}/Identity")[0]

    def _writer(self, assembler: Assembler, label: str) -> Writer:
        return Writer(self.where, f"{self.name}/{label}", assembler.network.opset)

    def _int64(self, assembler: Assembler, scope: Scope, value: ir.Value) -> ir.Value:
        writer = self._writer(assembler, "count")
        made = writer.cast(value, DataType.INT64)
        assembler.adopt(writer, scope)
        return made

    def _slice(
        self, assembler: Assembler, body: Scope, layer: IteratorLayer, iteration: ir.Value, count: ir.Value | None
    ) -> ir.Value:
        assert body.parent is not None
        source = assembler.require(layer.dependencies(), body.parent)[0]
        writer = self._writer(assembler, layer.name)
        if layer.reverse:
            if count is None:
                raise ConfigError(f"{layer.where}: reverse needs a trip limit of kind COUNT")
            last = writer.op("Sub", count, writer.constant(np.int64(1), "one"))
            iteration = writer.op("Sub", last, iteration)
        made = layer.slice(writer, source, iteration)
        assembler.adopt(writer, body)
        return made

    def _joined(self, assembler: Assembler, scope: Scope, layer: LoopOutputLayer, value: ir.Value) -> ir.Value:
        """What ONNX stacked along axis 0, in the wanted order, along the wanted axis."""
        facts = layer.get_output(0)._facts
        assert facts.shape is not None
        stacked = list(facts.shape)
        length = stacked.pop(layer.axis)
        Facts(facts.dtype, (length, *stacked)).apply(value)
        writer = self._writer(assembler, layer.name)
        made = value
        if layer.output_kind is LoopOutput.REVERSE:
            backward = [writer.ints([number]) for number in (-1, -(2**62), 0, -1)]
            made = writer.op("Slice", made, *backward)
        if layer.axis:
            order = list(range(1, len(facts.shape)))
            order.insert(layer.axis, 0)
            made = writer.op("Transpose", made, perm=order)
        if made is not value:
            facts.apply(made)
        assembler.adopt(writer, scope)
        return made
