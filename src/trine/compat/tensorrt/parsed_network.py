"""What the ONNX parser read, seen as a network: its inputs, layers and outputs.

It answers what ``trine.network.Network`` does. An engine is built from the ONNX model itself; layers that are added
are joined with it then, see ``appended_layers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx.external_data_helper

from trine.compat.tensorrt.parsed_facts import facts_of
from trine.compat.tensorrt.parsed_layers import ParsedLayer, ParsedTensor
from trine.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from trine.compat.tensorrt.appended_layers import AppendedLayers

__all__ = ["ParsedNetwork"]

_LARGEST = 2**31 - 2**20  # what a protobuf message holds


class ParsedNetwork:
    """A parsed ONNX model. ``path`` is the file that it came from, beside which its external weights are."""

    def __init__(self, model: onnx.ModelProto, path: Path | None = None) -> None:
        self.model = model
        self._path = path
        self.name = model.graph.name or "Unnamed Network 0"
        self.changed = False
        graph = model.graph
        self._weights = {tensor.name for tensor in graph.initializer}
        self._tensors: dict[str, ParsedTensor] = {}
        self._added: AppendedLayers | None = None
        self._facts = facts_of(model)
        self._inputs: list[Any] = [self._tensor(value.name) for value in graph.input if value.name not in self._weights]
        self._outputs: list[Any] = [self._tensor(value.name) for value in graph.output]
        self._layers = [ParsedLayer(self, node, index) for index, node in enumerate(graph.node)]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("add_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.changed = True
        return getattr(self._added_layers().network, name)

    def add_input(self, name: str, dtype: Any, shape: Any) -> Any:
        """An input beside the model's. Raises ConfigError for a name that the model has."""
        if name in self._facts or name in self._weights:
            raise ConfigError(f"input {name!r}: the model has a tensor of that name already")
        added = self._added_layers().network.add_input(name, dtype, shape)
        self._inputs.append(added)
        self.changed = True
        return added

    def _added_layers(self) -> AppendedLayers:
        if self._added is None:
            from trine.compat.tensorrt.appended_layers import AppendedLayers

            self._added = AppendedLayers(next((each.version for each in self.model.opset_import if not each.domain), 1))
        return self._added

    def _placed(self, tensor: Any) -> Any:
        """What added layers know ``tensor`` as."""
        return self._added_layers().stand_in(tensor) if isinstance(tensor, ParsedTensor) else tensor

    def _original(self, tensor: Any) -> Any:
        """The other way round."""
        return tensor if self._added is None else self._added.original(tensor)

    def _tensor(self, name: str) -> ParsedTensor:
        if name not in self._tensors:
            self._tensors[name] = ParsedTensor(self, name)
        return self._tensors[name]

    @property
    def num_inputs(self) -> int:
        """How many inputs."""
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs."""
        return len(self._outputs)

    @property
    def num_layers(self) -> int:
        """How many nodes and added layers."""
        return len(self._layers) + (self._added.network.num_layers if self._added else 0)

    def get_input(self, index: int) -> Any:
        """Input ``index``."""
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        """Output ``index``."""
        return self._outputs[index]

    def get_layer(self, index: int) -> Any:
        """Node ``index``, or an added layer, which come after the nodes."""
        after = index - len(self._layers)
        if self._added is not None and after >= 0:
            return self._added.network.get_layer(after)
        return self._layers[index]

    def mark_output(self, tensor: Any) -> None:
        """Make a value an output. Raises ConfigError for one that is, or whose type ONNX cannot tell."""
        tensor = self._original(tensor)
        if not isinstance(tensor, ParsedTensor):
            self._added_layers().network.mark_output(tensor)
        elif tensor.is_network_output:
            raise ConfigError(f"tensor {tensor.name!r} is an output already")
        elif tensor.dtype is None:
            raise ConfigError(f"tensor {tensor.name!r}: ONNX cannot tell its type, which an output must have")
        self._outputs.append(tensor)
        self.changed = True

    def unmark_output(self, tensor: Any) -> None:
        """Make a value no output. Raises ConfigError for one that is none."""
        tensor = self._original(tensor)
        if all(output is not tensor for output in self._outputs):
            raise ConfigError(f"tensor {tensor.name!r} is no output")
        if not isinstance(tensor, ParsedTensor):
            self._added_layers().network.unmark_output(tensor)
        self._outputs = [output for output in self._outputs if output is not tensor]
        self.changed = True

    def remove_tensor(self, tensor: Any) -> None:
        """Take an added layer's tensor away; one that came from ONNX is refused with UnsupportedError."""
        if isinstance(tensor, ParsedTensor):
            raise UnsupportedError(f"tensor {tensor.name!r} came from ONNX; change the model before it is parsed")
        self._added_layers().network.remove_tensor(tensor)

    def _rename(self, old: str, new: str) -> None:
        if new in self._facts or new in self._weights:
            raise ConfigError(f"tensor {old!r}: the model has a tensor {new!r} already")
        graph = self.model.graph
        for node in graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.name == old:
                value.name = new
        self._tensors[new] = self._tensors.pop(old)
        self._facts[new] = self._facts.pop(old, (None, None))
        self.changed = True

    def to_onnx(self) -> bytes:
        """The model's bytes, with its weights. Raises ConfigError for more than 2 GiB, which bytes cannot hold."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        if self._added is not None:
            model = self._added.write(model, self._outputs, self._facts)
        else:
            declared = {value.name: value for value in model.graph.output}
            del model.graph.output[:]
            model.graph.output.extend(declared.get(each.name) or self._declaration(each) for each in self._outputs)
        if self._path is not None:
            onnx.external_data_helper.load_external_data_for_model(model, str(self._path.parent))
        if model.ByteSize() >= _LARGEST:
            raise ConfigError(f"{self.name!r} was changed after it was parsed, and has 2 GiB or more with its weights")
        data: bytes = model.SerializeToString()
        return data

    def _declaration(self, tensor: ParsedTensor) -> onnx.ValueInfoProto:
        shape, dtype = tensor.shape, tensor.dtype
        assert dtype is not None
        return onnx.helper.make_tensor_value_info(tensor.name, dtype.onnx, None if shape is None else list(shape))
