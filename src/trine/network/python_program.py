"""The layer-by-layer program of a model: what ``trine.Network`` calls make it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError, UnsupportedError
from trine.importers.imported_model import ImportedModel
from trine.network.network import Network
from trine.network.spellings import SPELLINGS

__all__ = ["to_python"]

_INLINE = 8  # constants of up to this many elements are written into the program
_LOAD = 'with np.load(Path(__file__).with_suffix(".npz")) as file:\n    weights = dict(file)\n\n\n'
_TAKEN = ("network", "np", "trine", "weights", "layer", "make", "Path")


def to_python(source: Any, path: str | Path | None = None, *, example_inputs: Any = None) -> str:
    """The Python program that makes ``source`` layer by layer: its function ``make()`` returns a ``trine.Network``.

    Args:
        source: a ``trine.Network``, an ``ImportedModel`` or ``onnx_ir.Model``; or what ``trine.build`` takes: the path
            or bytes of an ONNX file, or a ``torch.nn.Module`` with its ``example_inputs``.
        path: where to write the program; its weights go beside it, in an ``.npz`` file of the same name. Without a
            path nothing is written, and the program looks for its weights beside itself.

    Raises:
        UnsupportedError: the model has If, Loop or Scan nodes, or strings among its weights.
    """
    if isinstance(source, Network):
        name, model = source.name, source.to_model()
    elif isinstance(source, ImportedModel):
        name, model = source.name, source.model
    elif isinstance(source, ir.Model):
        name, model = source.graph.name or "network", source
    else:
        from trine.importers import import_model

        imported = import_model(source, example_inputs)
        name, model = imported.name, imported.model
    program = _Program(name, model)
    text = program.text()
    if path is not None:
        path = Path(path)
        if path.suffix != ".py":
            raise ConfigError(f"to_python: {path} is no name for a program; let it end in .py")
        path.write_text(text, encoding="utf-8")
        if program.stored:
            arrays: Mapping[str, Any] = program.stored
            np.savez(path.with_suffix(".npz"), **arrays)
    return text


class _Program:
    """The lines of one program, and the arrays that it loads."""

    def __init__(self, name: str, model: ir.Model) -> None:
        self.name = name
        self.model = model
        self.stored: dict[str, np.ndarray[Any, Any]] = {}
        self._lines: list[str] = []
        self._names: dict[ir.Value, str] = {}
        self._taken = set(_TAKEN)
        self._keys: dict[ir.Value, str] = {}

    def text(self) -> str:
        """The whole program."""
        graph = self.model.graph
        for value in graph.inputs:
            dtype = None if value.dtype is None else DataType.from_onnx(int(value.dtype)).value
            shape = tuple(
                dim if isinstance(dim, int) else str(dim.value or f"{value.name}_{axis}")
                for axis, dim in enumerate(value.shape or ())
            )
            self._lines.append(f"{self._variable(value)} = network.add_input({value.name!r}, {dtype!r}, {shape})")
        for node in graph:
            self._node(node)
        for value in graph.outputs:
            tensor = self.tensor(value)
            if not value.is_graph_input():
                self._lines.append(f"{tensor}.name = {value.name!r}")
            self._lines.append(f"network.mark_output({tensor})")
        opset = self.model.opset_imports.get("", 0)
        domains = [
            f"network.domains[{domain!r}] = {version}"
            for domain, version in self.model.opset_imports.items()
            if domain not in ("", "ai.onnx")
        ]
        body = "\n    ".join([f"network = trine.Network({self.name!r}, opset={opset})", *domains, *self._lines])
        load = _LOAD if self.stored else "\n"
        paths = "from pathlib import Path\n\n" if self.stored else ""
        kept = " Its weights are in the .npz file beside it." if self.stored else ""
        quoted = self.name.replace("\\", "").replace('"', "'")
        return (
            f'"""The network "{quoted}", layer by layer.{kept}"""\n\n{paths}import numpy as np\n\nimport trine\n\n'
            f"{load}def make() -> trine.Network:\n    {body}\n    return network\n\n\n"
            f'if __name__ == "__main__":\n    print(trine.build(make()))\n'
        )

    def tensor(self, value: ir.Value | None) -> str:
        """The variable of a tensor; a constant gets its layer when it is first used."""
        if value is None:
            return "None"
        if value not in self._names:
            if self._constant(value) is None:
                raise UnsupportedError(f"tensor {value.name!r} is made by nothing in the graph; re-export the model")
            array = self.array(value)
            self._lines.append(f"{self._variable(value)} = network.add_constant({array}).get_output(0)")
        return self._names[value]

    def array(self, value: ir.Value) -> str:
        """The expression for a constant's array: written out when small, else loaded."""
        constant = self._constant(value)
        assert constant is not None
        if constant.dtype == ir.DataType.STRING:
            raise UnsupportedError(f"tensor {value.name!r} holds strings, which no network has")
        array = np.asarray(constant.numpy())
        dtype = DataType.from_onnx(int(constant.dtype))
        plain = array.dtype.kind in "biuf"
        if array.size <= _INLINE and plain and np.isfinite(array).all():
            return f"np.array({array.tolist()!r}, np.{np.dtype(array.dtype).type.__name__})"
        if value not in self._keys:
            self._keys[value] = self._unique(value.name or "weights")
            self.stored[self._keys[value]] = array if plain else array.view(f"u{array.dtype.itemsize}")
        loaded = f'weights["{self._keys[value]}"]'
        return loaded if plain else f"{loaded}.view(trine.DataType.{dtype.name}.numpy)"

    def numbers(self, value: ir.Value | None) -> np.ndarray[Any, Any] | None:
        """A constant's elements."""
        constant = None if value is None else self._constant(value)
        return None if constant is None else np.asarray(constant.numpy())

    def _constant(self, value: ir.Value) -> ir.TensorProtocol | None:
        producer = value.producer()
        if producer is not None and producer.op_type == "Constant" and "value" in producer.attributes:
            return producer.attributes["value"].as_tensor()
        return value.const_value if producer is None and not value.is_graph_input() else None

    def _node(self, node: ir.Node) -> None:
        if node.op_type == "Constant" and "value" in node.attributes:
            return
        for attribute in node.attributes.values():
            if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                raise UnsupportedError(
                    f"node {node.name!r} ({node.op_type}) has a graph inside; loops and conditionals cannot be written"
                )
        said = SPELLINGS[node.op_type](self, node) if not node.domain and node.op_type in SPELLINGS else None
        if said is None and node.op_type == "Cast" and not node.domain:
            dtype = DataType.from_onnx(node.attributes["to"].as_int()).value
            said = f"add_cast({self.tensor(node.inputs[0])}, {dtype!r})", {}
        call, settings = self._any(node) if said is None else said
        if not settings and len(node.outputs) == 1:
            self._lines.append(f"{self._variable(node.outputs[0])} = network.{call}.get_output(0)")
            return
        self._lines.append(f"layer = network.{call}")
        self._lines.extend(f"layer.{key} = {value!r}" for key, value in settings.items())
        for index, value in enumerate(node.outputs):
            if value.name:
                self._lines.append(f"{self._variable(value)} = layer.get_output({index})")

    def _any(self, node: ir.Node) -> tuple[str, Mapping[str, Any]]:
        inputs = ", ".join(self.tensor(value) for value in node.inputs)
        attributes = {name: self._attribute(node, attribute) for name, attribute in node.attributes.items()}
        written = ", ".join(f"{name!r}: {value}" for name, value in attributes.items())
        rest = "" if len(node.outputs) == 1 else f", outputs={len(node.outputs)}"
        rest += f", domain={node.domain!r}" if node.domain else ""
        return f"add_node({node.op_type!r}, [{inputs}], {{{written}}}{rest})", {}

    def _attribute(self, node: ir.Node, attribute: ir.Attr) -> str:
        if attribute.type is ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            return self.array(ir.Value(name=f"{node.name}_{attribute.name}", const_value=tensor))
        value = attribute.value
        return repr(list(value) if isinstance(value, tuple) else value)

    def _variable(self, value: ir.Value) -> str:
        self._names[value] = self._unique(value.name or "tensor")
        return self._names[value]

    def _unique(self, wanted: str) -> str:
        """A Python name like ``wanted`` that nothing else has."""
        base = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_") or "tensor"
        if base[0].isdigit() or keyword.iskeyword(base):
            base = f"t_{base}"
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name
