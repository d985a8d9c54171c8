"""ITensor: a value in a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt.dims import Dims
from trine.compat.tensorrt.enums import DataType, current, mask_of_all
from trine.compat.tensorrt.eras import Checked
from trine.compat.tensorrt.foundation import from_trine, to_trine
from trine.errors import TrineError

if TYPE_CHECKING:
    from trine.compat.tensorrt.network import INetworkDefinition

__all__ = ["ITensor"]


class ITensor(Checked):
    """A value in a network: an input, or a layer's output. The same object each time it is asked for."""

    def __init__(self, network: INetworkDefinition, tensor: Any) -> None:
        self._network = network
        self._tensor = tensor
        self._location = "DEVICE"
        self._formats: int | None = None
        self._range: tuple[float, float] | None = None
        self._wanted: DataType | None = None  # the type that an output was given, where it is not the graph's
        self._dimension_names: dict[int, str] = {}

    @property
    def name(self) -> str:
        """Its name. No two inputs or outputs can have the same."""
        found: str = self._tensor.name
        return found

    @name.setter
    def name(self, name: str) -> None:
        try:
            self._tensor.name = str(name)
        except (TrineError, ValueError) as err:
            self._network._reporter.failed("ITensor::setName", err)

    @property
    def shape(self) -> Dims:
        """Its dimensions, -1 for each that only a call knows; without the batch where that is implicit."""
        shape = self._network._attempt("ITensor::getDimensions", lambda: self._tensor.shape)
        if shape is None:
            return Dims()
        return Dims([dim if isinstance(dim, int) else -1 for dim in shape[self._network._hidden_axes :]])

    @shape.setter
    def shape(self, shape: Any) -> None:
        self._network._set_input_shape(self, tuple(int(dim) for dim in shape))

    @property
    def dtype(self) -> DataType:
        """Its element type. An output can be given another one: the engine then converts."""
        known = self._network._attempt("ITensor::getType", lambda: self._tensor.dtype)
        return self._wanted or from_trine(known)

    @dtype.setter
    def dtype(self, dtype: DataType) -> None:
        if to_trine(dtype) is self._tensor.dtype:
            self._wanted = None
        elif self.is_network_input:
            self._network._set_input_dtype(self, to_trine(dtype))
        else:
            self._wanted = dtype

    @property
    def is_network_input(self) -> bool:
        """Whether it is an input of the network."""
        return bool(self._tensor.is_network_input)

    @property
    def is_network_output(self) -> bool:
        """Whether it was marked as an output of the network."""
        return bool(self._tensor.is_network_output)

    @property
    def is_shape_tensor(self) -> bool:
        """False: trine computes shapes where it computes everything else."""
        return False

    @property
    def is_execution_tensor(self) -> bool:
        """True, see ``is_shape_tensor``."""
        return True

    @property
    def location(self) -> Any:
        """Where the program says that it is. On the CPU everything is in the host's memory."""
        return current("TensorLocation")[self._location]

    @location.setter
    def location(self, location: Any) -> None:
        self._location = location.name

    @property
    def allowed_formats(self) -> int:
        """A mask of the memory layouts that an input or output may have. trine's are always linear."""
        return mask_of_all("TensorFormat") if self._formats is None else self._formats

    @allowed_formats.setter
    def allowed_formats(self, formats: int) -> None:
        if not int(formats) & 1:
            self._network._reporter.warning(
                f"tensor {self.name!r}: memory layouts other than LINEAR are for GPUs; trine keeps it linear"
            )
        self._formats = int(formats)

    @property
    def broadcast_across_batch(self) -> bool:
        """False: gone with the implicit batch."""
        return False

    @broadcast_across_batch.setter
    def broadcast_across_batch(self, value: bool) -> None:
        if value:
            self._network._reporter.error(
                "ITensor::setBroadcastAcrossBatch", f"tensor {self.name!r}: give the input a batch instead"
            )

    @property
    def dynamic_range(self) -> tuple[float, float] | None:
        """The range of its values for INT8, or None."""
        return self._range

    @dynamic_range.setter
    def dynamic_range(self, limits: tuple[float, float]) -> None:
        low, high = limits
        self.set_dynamic_range(low, high)

    def set_dynamic_range(self, min: float, max: float) -> bool:  # noqa: A002  # TensorRT's names
        """Say the range of its values for INT8. False where it is no range."""
        if not min <= max:
            self._network._reporter.error(
                "ITensor::setDynamicRange", f"tensor {self.name!r}: expected min <= max, got {min} and {max}"
            )
            return False
        self._range = (float(min), float(max))
        return True

    def reset_dynamic_range(self) -> None:
        """Forget the range."""
        self._range = None

    def set_dimension_name(self, index: int, name: str) -> None:
        """Name a dimension, for people."""
        self._dimension_names[int(index)] = str(name)

    def get_dimension_name(self, index: int) -> str | None:
        """What ``set_dimension_name`` said, or the dimension's symbol, or None."""
        if index in self._dimension_names:
            return self._dimension_names[index]
        shape = self._tensor.shape or ()
        dims = shape[self._network._hidden_axes :]
        dim = dims[index] if 0 <= index < len(dims) else None
        return dim if isinstance(dim, str) else None

    def __repr__(self) -> str:
        return f"<ITensor {self.name!r} {self.dtype.name} {self.shape}>"
