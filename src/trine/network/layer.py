"""What every kind of layer has, and when a layer is inferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError, TrineError
from trine.network.operations import LayerType
from trine.network.tensor import Facts, Tensor
from trine.network.writer import UnfinishedError, Writer

if TYPE_CHECKING:
    from trine.network.network import Network

__all__ = ["Layer"]


class Layer:
    """A step of a network: inputs, properties, outputs. Made by a network's ``add_*`` methods.

    A kind of layer says in ``write`` which ONNX nodes it is. It is written when it is added, and again whenever a
    property or an input changes, to know the types and shapes of its outputs; and once more into the model.
    """

    kind: ClassVar[LayerType]
    max_inputs: ClassVar[int] = 1

    def __init__(
        self,
        network: Network,
        inputs: Sequence[Tensor | None],
        *,
        outputs: int = 1,
        name: str | None = None,
        **settings: Any,
    ) -> None:
        self.network = network
        self._settings: dict[str, Any] = {}
        self._admitted = False
        self._unfinished: UnfinishedError | None = None
        self._name = name
        self._auto_name = network._auto_name(self.label)
        self.metadata = ""
        self._inputs: list[Tensor | None] = []
        for index, tensor in enumerate(inputs):
            self._check_tensor(index, tensor)
            self._inputs.append(tensor)
        self._outputs = [Tensor(network, layer=self, index=index) for index in range(outputs)]
        for key, value in settings.items():
            setattr(self, key, value)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Writes the layer's nodes; returns its outputs. ``inputs`` has an ``ir.Value``, or None, for each input."""
        raise NotImplementedError

    @property
    def type(self) -> LayerType:
        """Its kind."""
        return self.kind

    @property
    def name(self) -> str:
        """Shown by ``trine inspect`` and in errors. Can be set."""
        return self._name or self._auto_name

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{self.where}: a name is a string that is not empty, got {name!r}")
        self._name = name

    @property
    def label(self) -> str:
        """What its name begins with until it is given one."""
        return self.kind.name.lower()

    @property
    def where(self) -> str:
        """How errors call it."""
        return f"layer {self.name!r} ({self.kind.name})"

    @property
    def num_inputs(self) -> int:
        """How many inputs it has, those that are None included."""
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        """How many outputs it has."""
        return len(self._outputs)

    def get_input(self, index: int) -> Tensor | None:
        """Input ``index``; None for an optional one that is not there."""
        if not 0 <= index < self.num_inputs:
            raise ConfigError(f"{self.where} has {self.num_inputs} input(s), so no {index}")
        return self._inputs[index]

    def get_output(self, index: int = 0) -> Tensor:
        """Output ``index``. The same object each time."""
        if not 0 <= index < self.num_outputs:
            raise ConfigError(f"{self.where} has {self.num_outputs} output(s), so no {index}")
        return self._outputs[index]

    def set_input(self, index: int, tensor: Tensor | None) -> None:
        """Replaces an input, or adds an optional one that the kind of layer has."""
        if not 0 <= index < self.max_inputs:
            raise ConfigError(f"{self.where} has inputs 0 to {self.max_inputs - 1}, so no {index}")
        self._check_tensor(index, tensor)
        before = list(self._inputs)
        after = before + [None] * (index + 1 - len(before))
        after[index] = tensor
        if tensor is not None and self.waits_for(index) and self.network._depends(tensor, self):
            raise ConfigError(
                f"{self.where}: input {index} would be {tensor.name!r}, which is computed from this layer's own "
                "output; only a loop's recurrence may go round"
            )
        self._use(after)
        try:
            self.network._infer_from(self)
        except TrineError:
            self._use(before)
            self.network._infer_from(self)
            raise

    def waits_for(self, index: int) -> bool:
        """Whether input ``index`` must be computed before this layer; a recurrence's next value need not."""
        return True

    def dependencies(self) -> list[Tensor]:
        """The inputs that must be computed before this layer."""
        return [tensor for i, tensor in enumerate(self._inputs) if tensor is not None and self.waits_for(i)]

    @property
    def input_rank(self) -> int:
        """How many dimensions input 0 has. Raises ConfigError where not known."""
        tensor = self._inputs[0]
        assert tensor is not None
        if tensor.shape is None:
            raise ConfigError(f"{self.where}: the rank of its input {tensor.name!r} is not known")
        return len(tensor.shape)

    @property
    def spatial_rank(self) -> int:
        """How many dimensions come after batch and channel."""
        return max(self.input_rank - 2, 0)

    def error(self, text: str) -> ConfigError:
        """To raise: ``text`` said of this layer."""
        return ConfigError(f"{self.where}: {text}")

    def check_finished(self) -> None:
        """Raises what is wrong with the layer as it stands, if anything is."""
        if self._unfinished is not None:
            raise self._unfinished

    def infer(self) -> bool:
        """Finds the types and shapes of the outputs. Returns whether any changed.

        Raises ConfigError for what no other property could mend; the rest is kept for ``check_finished``.
        """
        before = [tensor._facts for tensor in self._outputs]
        was_finished = self._unfinished is None
        writer = Writer(self.where, self.name, self.network.opset)
        try:
            inputs = []
            for tensor in self._inputs:
                if tensor is not None and tensor._layer is not None and tensor._layer is not self:
                    tensor._layer.check_finished()
                inputs.append(None if tensor is None else self._input_value(tensor))
            values = self.write(writer, inputs)
        except UnfinishedError as err:
            self._unfinished = err
            for tensor in self._outputs:
                tensor._facts = Facts()
            return was_finished
        self._unfinished = None
        for tensor, value in zip(self._outputs, values, strict=True):
            suffix = "" if len(self._outputs) == 1 else f"_{tensor._index}"
            tensor._facts = Facts.of(value, f"{self.name}{suffix}")
        return not was_finished or not all(
            tensor._facts.same_as(old) for tensor, old in zip(self._outputs, before, strict=True)
        )

    def _input_value(self, tensor: Tensor) -> ir.Value:
        facts = tensor._facts
        return facts.apply(ir.Value(name=tensor.name, const_value=facts.constant))

    def _check_tensor(self, index: int, tensor: Any) -> None:
        if tensor is None:
            return
        if not isinstance(tensor, Tensor):
            raise ConfigError(
                f"{self.where}: input {index}: expected a Tensor of the network, got {type(tensor).__name__}; for a "
                "layer use .get_output(0), for a number or an array network.add_constant(...).get_output(0)"
            )
        if tensor._network is not self.network:
            raise ConfigError(
                f"{self.where}: input {index} is {tensor.name!r} of the network {tensor._network.name!r}; tensors "
                "cannot go from one network into another"
            )
        if self.network._removed(tensor):
            raise ConfigError(f"{self.where}: input {index} is {tensor.name!r}, which was removed from the network")

    def _use(self, inputs: list[Tensor | None]) -> None:
        """Makes these the inputs."""
        for tensor in self._inputs:
            if tensor is not None and self in tensor._users:
                tensor._users.remove(self)
        self._inputs = inputs
        for tensor in inputs:
            if tensor is not None:
                tensor._users.append(self)

    def _change_settings(self, values: dict[str, Any]) -> None:
        before = dict(self._settings)
        self._settings.update(values)
        if not self._admitted:
            return
        try:
            self.network._infer_from(self)
        except TrineError:
            self._settings = before
            self.network._infer_from(self)
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def sized(
    w: Writer, tensor: ir.TensorProtocol, shape: Sequence[int], dtype: DataType, what: str, hint: str = ""
) -> ir.Value:
    """Weights as a constant of ``shape``; flat ones are taken in that order, other float types are converted.

    Raises ConfigError when their number is another.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if tensor.size != count:
        raise w.error(
            f"{what} has {tensor.size} weights of shape {tuple(tensor.shape.numpy())}, wanted {count}: "
            f"{tuple(shape)}{hint}"
        )
    own = DataType.from_onnx(int(tensor.dtype))
    if own is dtype and tuple(tensor.shape.numpy()) == tuple(shape):
        return w.constant(tensor, what)
    if own is not dtype and not (own.is_floating and dtype.is_floating):
        raise w.error(f"{what} is {own.value}, wanted {dtype.value} as the input is; convert one of them")
    array = tensor.numpy().reshape(tuple(shape))
    return w.constant(array if own is dtype else array.astype(dtype.numpy), what)
