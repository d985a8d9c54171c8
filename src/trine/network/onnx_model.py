"""A network as an ONNX model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from trine.errors import ConfigError
from trine.network.assembly import Assembler, Scope
from trine.network.tensor import Tensor

if TYPE_CHECKING:
    from trine.network.network import Network

__all__ = ["to_model"]

_IR_VERSION = 10  # what onnxruntime 1.23 reads; no operator that layers are written with needs a newer one
_INLINE_LIMIT = 1024  # larger weights are not shown to ONNX's checker


def to_model(network: Network) -> ir.Model:
    """See ``Network.to_model``."""
    if not network.outputs:
        raise ConfigError(f"network {network.name!r} has no outputs; mark one with network.mark_output(tensor)")
    assembler = Assembler(network)
    for tensor in dict.fromkeys([*network.inputs, *network.outputs]):
        assembler.reserve(tensor.name)
    scope = Scope(None, None)
    for tensor in network.inputs:
        scope.values[tensor] = tensor._facts.apply(ir.Value(name=tensor.name))
    outputs = []
    for tensor, value in zip(network.outputs, assembler.require(network.outputs, scope), strict=True):
        outputs.append(_output(tensor, value, scope, is_input=tensor in network.inputs))
    graph = ir.Graph(
        [scope.values[tensor] for tensor in network.inputs],
        outputs,
        nodes=scope.nodes,
        initializers=assembler.initializers,
        opset_imports={"": network.opset, **network.domains},
        name=network.name,
    )
    model = ir.Model(graph, ir_version=_IR_VERSION, producer_name="trine")
    _check(model, network.name)
    return model


def _output(tensor: Tensor, value: ir.Value, scope: Scope, is_input: bool) -> ir.Value:
    """The value that will be the output: made by a node, and called as the tensor is."""
    facts = tensor._facts
    if value.producer() is not None and value.producer() in scope.nodes and not value.meta.get("trine.output"):
        value.name = tensor.name
        value.meta["trine.output"] = True
        return facts.apply(value)
    node = ir.node("Identity", [value], name=f"{tensor.name}/Identity")
    scope.nodes.append(node)
    copy = node.outputs[0]
    if value.name == tensor.name and not is_input:
        value.name = f"{tensor.name}_value"
    copy.name = f"{tensor.name}_output" if is_input else tensor.name
    return facts.apply(copy)


def _check(model: ir.Model, name: str) -> None:
    """ONNX's own checker, which sees large weights as inputs."""
    graph = model.graph
    large = {
        key: value
        for key, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.nbytes > _INLINE_LIMIT
    }
    count = len(graph.inputs)
    for key, value in large.items():
        del graph.initializers[key]
        graph.inputs.append(value)
    try:
        onnx.checker.check_model(ir.to_proto(model))
    except onnx.checker.ValidationError as err:
        raise ConfigError(f"network {name!r} makes no valid ONNX model: {' '.join(str(err).split())[:600]}") from err
    finally:
        del graph.inputs[count:]
        for value in large.values():
            graph.register_initializer(value)
