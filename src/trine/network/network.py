"""Networks written layer by layer, in TensorRT's words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnx_ir as ir

from trine.errors import ConfigError
from trine.network.arranging import ArrangingLayers
from trine.network.assembly import Assembler, Scope, Structure
from trine.network.computing import ComputingLayers
from trine.network.conditionals import IfConditional
from trine.network.layer import Layer
from trine.network.loops import Loop
from trine.network.onnx_model import to_model
from trine.network.tensor import Facts, Tensor, as_dtype, input_shape
from trine.network.writer import OPSET

__all__ = ["Network"]

L = TypeVar("L", bound=Layer)
S = TypeVar("S", Loop, IfConditional)
T = TypeVar("T")


class Network(ComputingLayers, ArrangingLayers):
    """Inputs, layers and outputs. Every ``add_*`` method returns its layer, whose outputs have their shapes at once.

    ::

        network = trine.Network("small")
        x = network.add_input("x", "float32", ("batch", 3, 32, 32))
        convolution = network.add_convolution_nd(x, 8, (3, 3), kernel, bias)
        convolution.padding_nd = (1, 1)
        network.mark_output(network.add_activation(convolution.get_output(0), "RELU").get_output(0))
        engine = trine.build(network)

    A mistake is refused where it is made, with the layer's name, by ConfigError.
    """

    def __init__(self, name: str = "network", *, opset: int = OPSET) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"a network's name is a string that is not empty, got {name!r}")
        self.name = name
        self.opset = opset
        self.domains: dict[str, int] = {}  # versions of the operator domains besides ONNX's own
        self.structures: list[Structure] = []
        self.shares_weights = False
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._layers: list[Layer] = []
        self._gone: set[Tensor] = set()
        self._counts: dict[str, int] = {}
        self._host: ir.Model | None = None
        self._wrapped: dict[ir.Value, Tensor] = {}

    @classmethod
    def inside(cls, model: ir.Model) -> Network:
        """A network whose layers will stand in ``model``'s graph; see ``wrap`` and ``write_before``."""
        network = cls(model.graph.name or "graph", opset=model.opset_imports.get("", OPSET))
        network._host = model
        network.shares_weights = True
        network.domains.update({name: version for name, version in model.opset_imports.items() if name})
        return network

    def wrap(self, value: ir.Value) -> Tensor:
        """The one Tensor of a value that the host graph has already."""
        if value not in self._wrapped:
            facts = Facts.of(value, value.name or "dim")
            self._wrapped[value] = Tensor(self, facts, name=value.name or "value", outer=value)
        return self._wrapped[value]

    def write_before(self, node: ir.Node, tensors: Sequence[Tensor]) -> list[ir.Value]:
        """Writes what ``tensors`` need into the host graph, before ``node``. Returns their values."""
        assert self._host is not None
        graph = self._host.graph
        assembler = Assembler(self, _names(graph))
        scope = Scope(None, None)
        scope.values.update({tensor: value for value, tensor in self._wrapped.items()})
        values = assembler.require(tensors, scope)
        for value in assembler.initializers:
            graph.register_initializer(value)
        graph.insert_before(node, scope.nodes)
        for name, version in self.domains.items():
            self._host.opset_imports.setdefault(name, version)
        return values

    def add_input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> Tensor:
        """An input of the network. A dimension is a size, a name for a dynamic one, or -1 for one that has none yet.

        -1 is called "batch" as the first dimension, else after the input and the axis.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"an input's name is a string that is not empty, got {name!r}")
        if any(tensor.name == name for tensor in self._inputs):
            raise ConfigError(f"network {self.name!r} has an input {name!r} already; inputs have different names")
        facts = Facts(as_dtype(dtype, f"input {name!r}"), input_shape(name, shape))
        tensor = Tensor(self, facts, name=name)
        self._inputs.append(tensor)
        return tensor

    def mark_output(self, tensor: Tensor) -> None:
        """Makes ``tensor`` an output. Outputs keep the order in which they are marked."""
        self._check_own(tensor, "mark_output")
        if tensor in self._outputs:
            raise ConfigError(f"tensor {tensor.name!r} is an output of the network already")
        if tensor.dtype is None:
            raise ConfigError(
                f"tensor {tensor.name!r} cannot be an output: an operator that ONNX does not know made it or what it "
                "comes from, so its dtype is not known"
            )
        self._outputs.append(tensor)

    def unmark_output(self, tensor: Tensor) -> None:
        """Makes ``tensor`` no output any more."""
        self._check_own(tensor, "unmark_output")
        if tensor not in self._outputs:
            raise ConfigError(f"tensor {tensor.name!r} is no output of the network")
        self._outputs.remove(tensor)

    def remove_tensor(self, tensor: Tensor) -> None:
        """Takes away an input that nothing uses, or an output of a layer that nothing uses."""
        self._check_own(tensor, "remove_tensor")
        if tensor._users:
            raise ConfigError(f"tensor {tensor.name!r} is an input of {tensor._users[0].where}; change that first")
        if tensor in self._outputs:
            self._outputs.remove(tensor)
        if tensor in self._inputs:
            self._inputs.remove(tensor)
        self._gone.add(tensor)

    @property
    def num_inputs(self) -> int:
        """How many inputs there are."""
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs there are."""
        return len(self._outputs)

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        return len(self._layers)

    def get_input(self, index: int) -> Tensor:
        """Input ``index``."""
        return self._nth(self._inputs, index, "inputs")

    def get_output(self, index: int) -> Tensor:
        """Output ``index``."""
        return self._nth(self._outputs, index, "outputs")

    def get_layer(self, index: int) -> Layer:
        """Layer ``index``, in the order in which they were added."""
        return self._nth(self._layers, index, "layers")

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """All inputs."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """All outputs."""
        return tuple(self._outputs)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers, in the order in which they were added."""
        return tuple(self._layers)

    def to_model(self) -> ir.Model:
        """A new ONNX model of the network, checked; weights are shared with the network, not copied.

        Raises ConfigError when there is no output, a name is used twice, or a layer is not finished.
        """
        return to_model(self)

    def to_onnx(self) -> bytes:
        """The network as the bytes of an ONNX file. Raises as ``to_model`` does, and for more than 2 GiB."""
        model = self.to_model()
        nbytes = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
        if nbytes >= 2**31 - 2**20:
            raise ConfigError(
                f"network {self.name!r} has {nbytes / 2**30:.1f} GiB of weights; an ONNX file holds at most 2 GiB"
            )
        data: bytes = ir.to_proto(model).SerializeToString()
        return data

    def to_python(self, path: str | Path | None = None) -> str:
        """The program that makes this network, written to ``path`` if given; see ``trine.network.to_python``."""
        from trine.network.python_program import to_python

        return to_python(self, path)

    def _make(self, kind: type[L], inputs: Sequence[Any], **settings: Any) -> L:
        return self._add(kind(self, inputs, **settings))

    def _open(self, kind: type[S]) -> S:
        structure = kind(self)
        self.structures.append(structure)
        return structure

    def _add(self, layer: L) -> L:
        """Infers the new layer, and takes it in. Raises ConfigError, and does not, when it makes no sense."""
        for tensor in layer.dependencies():
            tensor._check_finished()
        layer.infer()
        layer._use(list(layer._inputs))
        layer._admitted = True
        self._layers.append(layer)
        return layer

    def _auto_name(self, label: str) -> str:
        self._counts[label] = self._counts.get(label, 0) + 1
        return f"{label}_{self._counts[label]}"

    def _set_facts(self, tensor: Tensor, facts: Facts) -> None:
        """Changes an input's type or shape, and infers what comes after it; or changes nothing."""
        before = tensor._facts
        tensor._facts = facts
        try:
            self._infer_users(set(tensor._users))
        except ConfigError:
            tensor._facts = before
            self._infer_users(set(tensor._users))
            raise

    def _infer_from(self, layer: Layer) -> None:
        if layer.infer():
            self._infer_users({user for tensor in layer._outputs for user in tensor._users})

    def _infer_users(self, waiting: set[Layer]) -> None:
        if not waiting:
            return
        for layer in self._in_order():
            if layer in waiting and layer.infer():
                waiting.update(user for tensor in layer._outputs for user in tensor._users)

    def _in_order(self) -> list[Layer]:
        """The layers, each after those that it depends on."""
        order: list[Layer] = []
        done: set[Layer] = set()
        for first in self._layers:
            waiting = [first]
            while waiting:
                layer = waiting[-1]
                before = [t.layer for t in layer.dependencies() if t.layer is not None and t.layer not in done]
                if layer in done or not before:
                    waiting.pop()
                    if layer not in done:
                        done.add(layer)
                        order.append(layer)
                else:
                    waiting.extend(before)
        return order

    def _depends(self, tensor: Tensor, layer: Layer) -> bool:
        """Whether ``tensor`` is computed from ``layer``'s output."""
        waiting, seen = [tensor], set()
        while waiting:
            made_by = waiting.pop().layer
            if made_by is layer:
                return True
            if made_by is not None and made_by not in seen:
                seen.add(made_by)
                waiting.extend(made_by.dependencies())
        return False

    def _removed(self, tensor: Tensor) -> bool:
        return tensor in self._gone

    def _check_own(self, tensor: Any, what: str) -> None:
        if not isinstance(tensor, Tensor):
            raise ConfigError(
                f"{what}: expected a Tensor of the network, got {type(tensor).__name__}; for a layer use .get_output(0)"
            )
        if tensor._network is not self or tensor in self._gone:
            raise ConfigError(f"{what}: tensor {tensor.name!r} is not in the network {self.name!r}")

    def _nth(self, items: Sequence[T], index: int, what: str) -> T:
        if not 0 <= index < len(items):
            raise ConfigError(f"network {self.name!r} has {len(items)} {what}, so no {index}")
        return items[index]

    def __repr__(self) -> str:
        return f"Network({self.name!r}, {self.num_inputs} inputs, {self.num_layers} layers, {self.num_outputs} outputs)"


def _names(graph: ir.Graph) -> set[str]:
    """Every name of a value or a node in ``graph`` and the graphs within."""
    names = {value.name for value in graph.inputs if value.name} | set(graph.initializers)
    for node in graph.all_nodes():
        names.update(name for name in (node.name, *(value.name for value in node.outputs)) if name)
    return names
