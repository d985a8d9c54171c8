"""ILayer: what every layer has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.enums import DataType, current
from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.foundation import to_trine
from trine.compat.tensorrt.tensor import ITensor
from trine.errors import TrineError

if TYPE_CHECKING:
    from trine.compat.tensorrt.network import INetworkDefinition

__all__ = ["ILayer"]

# What TensorRT's parser made of an operator before there was a layer of its kind; of all others, a plugin.
_BEFORE = {"SQUEEZE": "SHUFFLE", "UNSQUEEZE": "SHUFFLE", "CAST": "IDENTITY"}


class ILayer(Checked):
    """A layer of a network. The same object each time it is asked for."""

    def __init__(self, network: INetworkDefinition, layer: Any) -> None:
        self._network = network
        self._layer = layer
        self._precision: DataType | None = None
        self._output_types: dict[int, DataType] = {}
        self._ranks = 1

    @property
    def name(self) -> str:
        """Shown by the inspector, the profiler and in errors."""
        found: str = self._layer.name
        return found

    @name.setter
    def name(self, name: str) -> None:
        self._layer.name = str(name)

    metadata = options.kept("metadata", "", "Text that the program keeps with the layer.")

    @property
    def type(self) -> Any:
        """A member of LayerType."""
        members = current("LayerType")
        name = _type_name(self._layer)
        while name not in members.__members__:
            name = _BEFORE.get(name, "PLUGIN_V2")
        return members[name]

    @property
    def num_inputs(self) -> int:
        """How many inputs it has."""
        return int(self._layer.num_inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs it has."""
        return int(self._layer.num_outputs)

    def get_input(self, index: int) -> ITensor | None:
        """Input ``index``; None where there is none."""
        if not 0 <= index < self.num_inputs:
            return None
        found = self._layer.get_input(index)
        return None if found is None else self._network._wrap(found)

    def get_output(self, index: int) -> ITensor | None:
        """Output ``index``; None where there is none."""
        if not 0 <= index < self.num_outputs:
            return None
        return self._network._wrap(self._layer.get_output(index))

    def set_input(self, index: int, tensor: ITensor) -> None:
        """Let input ``index`` be ``tensor``."""
        theirs = self._network._unwrap(tensor)
        try:
            self._layer.set_input(index, theirs)
        except (TrineError, ValueError, IndexError) as err:
            self._network._reporter.error(f"ILayer::setInput of layer {self.name!r}", err)

    @property
    def precision(self) -> DataType:
        """The type that it shall compute in. The engine keeps to it where the network's types say so; see docs."""
        output = self.get_output(0)
        return self._precision or (DataType.FLOAT if output is None else output.dtype)

    @precision.setter
    def precision(self, precision: DataType) -> None:
        to_trine(precision)
        self._precision = precision

    @property
    def precision_is_set(self) -> bool:
        """Whether ``precision`` was set."""
        return self._precision is not None

    def reset_precision(self) -> None:
        """Forget ``precision``."""
        self._precision = None

    def set_output_type(self, index: int, dtype: DataType) -> None:
        """Ask for an output's type. Acts on outputs of the network, which the engine then converts."""
        to_trine(dtype)
        self._output_types[int(index)] = dtype
        output = self.get_output(index)
        if output is not None and not output.is_network_input:
            output.dtype = dtype

    def get_output_type(self, index: int) -> DataType:
        """What ``set_output_type`` said, or the output's own type."""
        output = self.get_output(index)
        return self._output_types.get(int(index)) or (DataType.FLOAT if output is None else output.dtype)

    def output_type_is_set(self, index: int) -> bool:
        """Whether ``set_output_type`` was called for it."""
        return int(index) in self._output_types

    def reset_output_type(self, index: int) -> None:
        """Take back ``set_output_type``."""
        self._output_types.pop(int(index), None)
        output = self.get_output(index)
        if output is not None:
            output._wanted = None

    @property
    def num_ranks(self) -> int:
        """1: one process computes everything."""
        return self._ranks

    @num_ranks.setter
    def num_ranks(self, ranks: int) -> None:
        if int(ranks) != 1:
            self._network._reporter.error(
                "ILayer::setNbRanks", f"layer {self.name!r}: trine computes in one process; got {ranks}"
            )

    def __getattr__(self, name: str) -> Any:
        if getattr(self.__dict__.get("_layer"), "is_parsed", False) and hasattr(type(self), name):
            raise AttributeError(
                f"layer {self.name!r} came from the ONNX model, and does not show {name!r} here; read the model's node"
            )
        return super().__getattr__(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _type_name(layer: Any) -> str:
    kind = layer.type
    return str(getattr(kind, "name", kind))
