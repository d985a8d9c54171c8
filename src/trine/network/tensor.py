"""Tensors of a network: what flows between its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network.shape_values import Contents, contents_of, set_contents
from trine.network.writer import Dim, dims_of

if TYPE_CHECKING:
    from trine.network.layer import Layer
    from trine.network.network import Network

__all__ = ["Facts", "Tensor", "as_dtype"]


@dataclass(frozen=True)
class Facts:
    """What is known of a tensor before anything runs. Nothing is None only where an unknown operator made it."""

    dtype: DataType | None = None
    shape: tuple[int | str, ...] | None = None
    contents: Contents | None = None
    constant: ir.TensorProtocol | None = field(default=None, compare=False)

    @classmethod
    def of(cls, value: ir.Value, symbol: str) -> Facts:
        """Those of an ONNX value; dims that ONNX could not tell get symbols that begin with ``symbol``."""
        dims: tuple[Dim, ...] | None = dims_of(value)
        shape = None if dims is None else tuple(f"{symbol}_{axis}" if d is None else d for axis, d in enumerate(dims))
        dtype = None if value.dtype is None else DataType.from_onnx(int(value.dtype))
        return cls(dtype, shape, contents_of(value), value.const_value)

    def same_as(self, other: Facts) -> bool:
        """Whether both say the same, of the same constant."""
        return self == other and self.constant is other.constant

    def apply(self, value: ir.Value) -> ir.Value:
        """``value``, which gets this type, shape and contents."""
        if self.dtype is not None:
            value.type = ir.TensorType(ir.DataType(self.dtype.onnx))
        if self.shape is not None:
            value.shape = ir.Shape(list(self.shape))
        set_contents(value, self.contents)
        return value


class Tensor:
    """An input of the network, or an output of a layer. The same object wherever it is handed out."""

    def __init__(
        self,
        network: Network,
        facts: Facts = Facts(),  # frozen
        *,
        name: str | None = None,
        layer: Layer | None = None,
        index: int = 0,
        outer: ir.Value | None = None,
    ) -> None:
        self._network = network
        self._facts = facts
        self._name = name
        self._layer = layer
        self._index = index
        self._outer = outer  # in a graph that this network is written into: the value that stands there already
        self._users: list[Layer] = []

    @property
    def name(self) -> str:
        """Its name: for inputs and outputs of the network, what the engine calls them. Can be set."""
        if self._name is not None:
            return self._name
        assert self._layer is not None
        suffix = "" if self._layer.num_outputs == 1 else f"_{self._index}"
        return f"{self._layer.name}_output{suffix}"

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"tensor {self.name!r}: a name is a string that is not empty, got {name!r}")
        self._name = name

    @property
    def shape(self) -> tuple[int | str, ...] | None:
        """Dims, with a symbol for each dynamic one; None where an unknown operator made it. Settable for inputs."""
        self._check_finished()
        return self._facts.shape

    @shape.setter
    def shape(self, shape: Sequence[int | str]) -> None:
        self._check_input("shape")
        self._network._set_facts(self, Facts(self._facts.dtype, input_shape(self.name, shape)))

    @property
    def dtype(self) -> DataType | None:
        """The element type; None where an unknown operator made it. Settable for inputs."""
        self._check_finished()
        return self._facts.dtype

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        self._check_input("dtype")
        self._network._set_facts(self, Facts(as_dtype(dtype, f"input {self.name!r}"), self._facts.shape))

    @property
    def rank(self) -> int | None:
        """How many dimensions; None where not known."""
        shape = self.shape
        return None if shape is None else len(shape)

    @property
    def layer(self) -> Layer | None:
        """The layer that makes it; None for inputs of the network."""
        return self._layer

    @property
    def is_network_input(self) -> bool:
        """Whether ``add_input`` made it."""
        return self._layer is None and self._outer is None

    @property
    def is_network_output(self) -> bool:
        """Whether it was marked as an output."""
        return self in self._network._outputs

    def _check_finished(self) -> None:
        if self._layer is not None:
            self._layer.check_finished()

    def _check_input(self, what: str) -> None:
        if not self.is_network_input:
            raise ConfigError(
                f"tensor {self.name!r}: only an input's {what} can be set; a layer's output gets it from the layer"
            )

    def __repr__(self) -> str:
        dtype = self._facts.dtype.value if self._facts.dtype else "?"
        return f"Tensor({self.name!r}, {dtype}, {self._facts.shape})"


def as_dtype(dtype: Any, where: str) -> DataType:
    """A DataType from itself, its name, or NumPy's or PyTorch's type of that name. Raises ConfigError."""
    if isinstance(dtype, DataType):
        return dtype
    try:
        if isinstance(dtype, str):
            return DataType.from_name(dtype)
        if type(dtype).__module__ == "torch":
            return DataType.from_name(str(dtype))
        return DataType.from_numpy(np.dtype(dtype))
    except (TypeError, ConfigError) as err:
        raise ConfigError(f"{where}: {dtype!r} is no dtype; give trine.DataType.FLOAT32 or 'float32'") from err


def input_shape(name: str, shape: Sequence[int | str]) -> tuple[int | str, ...]:
    """The shape of an input. -1 is a dynamic dimension: "batch" for the first, a symbol of its own for others."""
    if isinstance(shape, str | int) or not isinstance(shape, Sequence):
        shape = tuple(shape) if hasattr(shape, "__iter__") and not isinstance(shape, str) else (shape,)
    dims: list[int | str] = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, str) and dim:
            dims.append(dim)
        elif isinstance(dim, int | np.integer) and not isinstance(dim, bool) and dim >= -1:
            dims.append(int(dim) if dim >= 0 else "batch" if axis == 0 else f"{name}_{axis}")
        else:
            raise ConfigError(
                f"input {name!r}: dimension {axis} is {dim!r}; a dimension is a size, a name (dynamic), or -1 (dynamic)"
            )
    return tuple(dims)
