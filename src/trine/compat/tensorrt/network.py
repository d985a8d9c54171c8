"""INetworkDefinition: a network written layer by layer, or by the ONNX parser, over ``trine.network``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import TYPE_CHECKING, Any, TypeVar

from trine.compat.tensorrt import eras, options
from trine.compat.tensorrt.foundation import as_array, to_trine
from trine.compat.tensorrt.layer import ILayer
from trine.compat.tensorrt.layer_classes import layer_class
from trine.compat.tensorrt.logger import Reporter
from trine.compat.tensorrt.network_layers import LayerMethods
from trine.compat.tensorrt.network_newer import NewerLayerMethods
from trine.compat.tensorrt.network_old import OldLayerMethods
from trine.compat.tensorrt.network_refused import RefusedMethods
from trine.compat.tensorrt.tensor import ITensor
from trine.errors import ConfigError, TrineError

if TYPE_CHECKING:
    from trine.compat.tensorrt.builder import Builder

__all__ = ["INetworkDefinition"]

_Result = TypeVar("_Result")
_UNNAMED = "Unnamed Network 0"
BATCH = "batch"  # the symbol of an implicit batch dimension


class INetworkDefinition(LayerMethods, NewerLayerMethods, OldLayerMethods, RefusedMethods):
    """A network. Made by ``Builder.create_network``.

    A layer that cannot be added is logged and None is returned, as TensorRT does.
    """

    def __init__(self, builder: Builder, flags: Set[str], mask: int, implicit: bool) -> None:
        from trine.network import Network

        self._builder = builder
        self._reporter = Reporter(builder.logger)
        self._flags = flags
        self._mask = mask
        self._implicit = implicit
        self._net: Any = Network(_UNNAMED)
        self._parsed = False  # whether _net is what the ONNX parser read
        self._tensors: dict[Any, ITensor] = {}
        self._layers: dict[Any, ILayer] = {}
        self._debug: set[str] = set()
        self._weight_names: dict[str, Any] = {}
        self._source: Any = None  # what the ONNX parser read, for as long as nothing was changed after

    # What the other classes ask.

    @property
    def _hidden_axes(self) -> int:
        """1 where the program does not see the batch dimension, else 0."""
        return int(self._implicit)

    def _wrap(self, tensor: Any) -> ITensor:
        tensor = self._net._original(tensor) if self._parsed else tensor
        found = self._tensors.get(tensor)
        if found is None:
            found = self._tensors[tensor] = ITensor(self, tensor)
        return found

    def _unwrap(self, tensor: Any) -> Any:
        """trine's tensor. Raises TypeError for what is no tensor; another network's is refused where it is used."""
        if not isinstance(tensor, ITensor):
            raise TypeError(f"expected a tensorrt.ITensor, got {type(tensor).__name__}")
        return self._net._placed(tensor._tensor) if self._parsed else tensor._tensor

    def _wrap_layer(self, layer: Any) -> ILayer:
        found = self._layers.get(layer)
        if found is None:
            found = self._layers[layer] = layer_class(layer)(self, layer)
        return found

    def _attempt(self, where: str, action: Callable[[], _Result]) -> _Result | None:
        """What ``action`` gives; where trine refuses, its reason is logged and None given."""
        try:
            return action()
        except (TrineError, ValueError) as err:
            self._reporter.failed(where, err)
            return None

    def _add(self, where: str, action: Callable[[], Any]) -> Any:
        """The layer that ``action`` adds to trine's network, in TensorRT's class; None where it is refused."""
        layer = self._attempt(f"INetworkDefinition::{where}", action)
        if layer is None:
            return None
        self._source = None
        return self._wrap_layer(layer)

    # TensorRT's own.

    @property
    def name(self) -> str:
        """The network's name, and the engine's."""
        found: str = self._net.name
        return found

    @name.setter
    def name(self, name: str) -> None:
        self._net.name = str(name)

    @property
    def builder(self) -> Builder:
        """The builder that made it."""
        return self._builder

    @property
    def flags(self) -> int:
        """The mask that it was created with."""
        return self._mask

    def get_flag(self, flag: Any) -> bool:
        """Whether it was created with ``flag``, a NetworkDefinitionCreationFlag."""
        return flag.name in self._flags

    @property
    def has_implicit_batch_dimension(self) -> bool:
        """Whether shapes leave the batch out."""
        return self._implicit

    @property
    def has_explicit_precision(self) -> bool:
        """Whether it was created with EXPLICIT_PRECISION."""
        return "EXPLICIT_PRECISION" in self._flags

    error_recorder = options.error_recorder

    @property
    def num_inputs(self) -> int:
        """How many inputs."""
        return int(self._net.num_inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs."""
        return int(self._net.num_outputs)

    @property
    def num_layers(self) -> int:
        """How many layers."""
        return int(self._net.num_layers)

    def __len__(self) -> int:
        return self.num_layers

    def __getitem__(self, index: int) -> ILayer:
        at = index + self.num_layers if index < 0 else index
        if not 0 <= at < self.num_layers:
            raise IndexError(f"layer {index}: the network has {self.num_layers} layers")
        return self._wrap_layer(self._net.get_layer(at))

    def __iter__(self) -> Iterator[ILayer]:
        for index in range(self.num_layers):
            yield self[index]

    def get_layer(self, index: int) -> ILayer | None:
        """Layer ``index``; None where there is none."""
        return self[index] if 0 <= index < self.num_layers else None

    def get_input(self, index: int) -> ITensor | None:
        """Input ``index``; None where there is none."""
        return self._wrap(self._net.get_input(index)) if 0 <= index < self.num_inputs else None

    def get_output(self, index: int) -> ITensor | None:
        """Output ``index``; None where there is none."""
        return self._wrap(self._net.get_output(index)) if 0 <= index < self.num_outputs else None

    def add_input(self, name: str, dtype: Any, shape: Any) -> ITensor | None:
        """An input. -1 in ``shape`` is a dimension for an optimization profile to give the range of."""
        dims: tuple[Any, ...] = tuple(int(dim) for dim in shape)
        if self._implicit:
            if -1 in dims:
                self._reporter.error(
                    "INetworkDefinition::addInput",
                    f"input {name!r}: {dims}: with an implicit batch, dimensions are fixed; create the network with "
                    "EXPLICIT_BATCH for dynamic ones",
                )
                return None
            dims = (BATCH, *dims)
        if any(isinstance(dim, int) and dim < -1 for dim in dims):
            self._reporter.error("INetworkDefinition::addInput", f"input {name!r}: dimensions {dims} must be >= -1")
            return None
        added = self._attempt(
            "INetworkDefinition::addInput", lambda: self._net.add_input(str(name), to_trine(dtype), dims)
        )
        if added is None:
            return None
        self._source = None
        return self._wrap(added)

    def mark_output(self, tensor: ITensor) -> None:
        """Make a tensor an output of the network."""
        theirs = self._unwrap(tensor)
        self._source = None
        self._attempt("INetworkDefinition::markOutput", lambda: self._net.mark_output(theirs))

    def unmark_output(self, tensor: ITensor) -> None:
        """Take back ``mark_output``."""
        theirs = self._unwrap(tensor)
        self._source = None
        self._attempt("INetworkDefinition::unmarkOutput", lambda: self._net.unmark_output(theirs))

    def mark_output_for_shapes(self, tensor: ITensor) -> bool:
        """Make a tensor an output; a shape's values come out as any other's."""
        self.mark_output(tensor)
        return tensor.is_network_output

    def unmark_output_for_shapes(self, tensor: ITensor) -> bool:
        """Take back ``mark_output_for_shapes``."""
        self.unmark_output(tensor)
        return not tensor.is_network_output

    def remove_tensor(self, tensor: ITensor) -> None:
        """Remove a tensor that no layer uses."""
        theirs = self._unwrap(tensor)
        self._source = None
        self._attempt("INetworkDefinition::removeTensor", lambda: self._net.remove_tensor(theirs))

    def set_weights_name(self, weights: Any, name: str) -> bool:
        """Name the weights that a layer was given, for the refitter. False where no layer has these."""
        array = as_array(weights)
        if array is None:
            return False
        self._weight_names[str(name)] = array
        return True

    def serialize(self) -> Any:
        """The network as ONNX bytes."""
        from trine.compat.tensorrt.foundation import IHostMemory

        data = self._attempt("INetworkDefinition::serialize", lambda: self._net.to_onnx())
        return None if data is None else IHostMemory(data)

    def __enter__(self) -> INetworkDefinition:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the network goes with the last reference."""

    def _begin_without_batch(self, tensor: Any) -> None:
        """Leave the batch out of shapes, where the first layer shows that the program does.

        Only where no era was chosen and no flag given: a retired two-dimensional layer on (channels, height, width).
        """
        undecided = eras.active() is None and not self._mask and not self._implicit and not self.num_layers
        if not undecided or not isinstance(tensor, ITensor) or len(tensor.shape) != 3 or -1 in tensor.shape:
            return
        for index in range(self.num_inputs):
            own = self._net.get_input(index)
            own.shape = (BATCH, *own.shape)
        self._implicit = True
        self._reporter.info("the network has no batch dimension: it is implicit, as up to TensorRT 9")

    def _adopt(self, parsed: Any, source: Any) -> None:
        """Become what the ONNX parser read; engines are built from `source` until something is changed."""
        parsed.name = parsed.name if self._net.name == _UNNAMED else self._net.name
        self._net, self._parsed, self._source = parsed, True, source

    # Changes to inputs.

    def _set_input_shape(self, tensor: ITensor, shape: tuple[int, ...]) -> None:
        if shape == tuple(tensor.shape):
            return
        where = "ITensor::setDimensions"
        if not tensor.is_network_input:
            self._reporter.error(where, f"tensor {tensor.name!r}: a layer computes it, so its shape follows from that")
            return
        dims = ((BATCH,) if self._implicit else ()) + shape
        self._attempt(where, lambda: _change_input(tensor, "shape", dims))
        self._source = None

    def _set_input_dtype(self, tensor: ITensor, dtype: Any) -> None:
        self._attempt("ITensor::setType", lambda: _change_input(tensor, "dtype", dtype))
        self._source = None

    def _loop_of(self, loop: Any) -> Any:
        from trine.compat.tensorrt.flow import ILoop

        return ILoop._of(self, loop)

    def _conditional_of(self, conditional: Any) -> Any:
        from trine.compat.tensorrt.flow import IIfConditional

        return IIfConditional._of(self, conditional)

    def _strongly_typed(self) -> bool:
        return "STRONGLY_TYPED" in self._flags or eras.active() in ("11", "11.1")


def _change_input(tensor: ITensor, what: str, value: Any) -> None:
    try:
        setattr(tensor._tensor, what, value)
    except AttributeError as err:
        raise ConfigError(
            f"input {tensor.name!r}: its {what} cannot be changed after it was added; give it to add_input"
        ) from err
