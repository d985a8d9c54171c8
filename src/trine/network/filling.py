"""Layers that make tensors from nothing: constants, ramps and random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx_ir as ir

from trine.dtypes import DataType
from trine.errors import ConfigError
from trine.network.layer import Layer
from trine.network.operations import FillOperation, LayerType
from trine.network.settings import Setting, choice, dtype, number, optional, sizes
from trine.network.settings import weights as check_weights
from trine.network.shape_layers import shape_tensor
from trine.network.writer import Writer

if TYPE_CHECKING:
    pass

__all__ = ["ConstantLayer", "FillLayer", "NodeLayer"]

_LAST_RANDOM = 21  # the last opset whose RandomUniformLike and RandomNormalLike ONNX Runtime has


class ConstantLayer(Layer):
    """The same numbers, whatever the inputs. ``shape`` may be set to another one with as many elements."""

    kind = LayerType.CONSTANT
    max_inputs: ClassVar[int] = 0

    weights = Setting(check_weights)
    shape = Setting(optional(sizes(0)))

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """An initializer; no node."""
        tensor = self.weights
        if tensor is None:
            raise w.error("it needs weights; give an array")
        own = tuple(tensor.shape.numpy())
        if self.shape is None or self.shape == own:
            return [w.constant(tensor, "weights")]
        if tensor.size != int(np.prod(self.shape, dtype=np.int64)):
            raise w.unfinished(f"{tensor.size} weights of shape {own} do not fill the shape {self.shape}")
        return [w.constant(tensor.numpy().reshape(self.shape), "weights")]


class FillLayer(Layer):
    """A tensor of ``shape`` with a ramp (alpha + beta * index), or random numbers.

    LINSPACE takes alpha as the start and beta as the step; with as many steps as dimensions in input 2, each dimension
    has its own. RANDOM_UNIFORM lies between alpha and beta, RANDOM_NORMAL has the mean alpha and the deviation beta.
    Inputs 0 to 2, if set, give shape, alpha and beta while running. Random numbers differ at each call, so an engine
    that returns them cannot be verified against its source; and they need a network of opset 21, as no backend has the
    newer operators.
    """

    kind = LayerType.FILL
    max_inputs: ClassVar[int] = 3

    shape = Setting(optional(sizes(0)))
    operation = Setting(choice(FillOperation), FillOperation.LINSPACE)
    alpha = Setting(number, 0.0)
    beta = Setting(number, 1.0)
    to_type = Setting(dtype, DataType.FLOAT32)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Range for a ramp; RandomUniformLike or RandomNormalLike."""
        shape, alpha, beta = inputs + [None] * (3 - len(inputs))
        if shape is None:
            if self.shape is None:
                raise w.unfinished("it needs a shape")
            shape = w.ints(self.shape)
        else:
            shape = shape_tensor(w, shape, "input 0, the shape,")
        if (alpha is None) != (beta is None):
            raise w.unfinished("inputs 1 and 2 (alpha and beta) come together or not at all")
        if self.operation is FillOperation.LINSPACE:
            return [self._ramp(w, shape, alpha, beta)]
        return [self._random(w, shape, alpha, beta)]

    def _ramp(self, w: Writer, shape: ir.Value, alpha: ir.Value | None, beta: ir.Value | None) -> ir.Value:
        count = w.dims(shape)[0]
        if not isinstance(count, int):
            raise w.error("the number of dimensions to fill must be known")
        steps = 1 if beta is None or w.rank(beta) == 0 else w.dims(beta)[0]
        if steps == 1 and count > 1:
            raise w.unfinished(f"a ramp of {count} dimensions needs {count} steps, in input 2")
        numpy_type = self.to_type.numpy
        made = w.constant(np.asarray(self.alpha, numpy_type), "start") if alpha is None else w.cast(alpha, self.to_type)
        step = w.constant(np.asarray([self.beta], numpy_type), "step") if beta is None else w.cast(beta, self.to_type)
        if w.rank(step) == 0:
            step = w.op("Unsqueeze", step, w.ints([0]))
        zero, one = w.constant(np.int64(0), "zero"), w.constant(np.int64(1), "one")
        for axis in range(count):
            length = w.op("Gather", shape, w.constant(np.int64(axis), "axis"))
            places = w.cast(w.op("Range", zero, length, one), self.to_type)
            here = w.op("Mul", places, w.op("Gather", step, w.constant(np.int64(axis), "axis")))
            column = w.op("Reshape", here, w.ints([-1] + [1] * (count - 1 - axis)))
            made = w.op("Add", made, column)
        contents = w.contents(shape)
        return w.set_dims(made, [None] * count if contents is None else list(contents))

    def _random(self, w: Writer, shape: ir.Value, alpha: ir.Value | None, beta: ir.Value | None) -> ir.Value:
        if w.opset > _LAST_RANDOM:
            raise w.error(
                f"no backend has the random operators of ONNX opset {w.opset}; make the network with "
                f"Network(name, opset={_LAST_RANDOM})"
            )
        if not self.to_type.is_floating:
            raise w.error(f"random numbers are floating-point, got to_type={self.to_type.value}")
        like = w.op("ConstantOfShape", shape, value=ir.tensor(np.zeros(1, np.float32)))
        low, high = (self.alpha, self.beta) if alpha is None else (0.0, 1.0)
        if self.operation is FillOperation.RANDOM_UNIFORM:
            made = w.op("RandomUniformLike", like, low=low, high=high)
        else:
            made = w.op("RandomNormalLike", like, mean=low, scale=high)
        if alpha is not None and beta is not None:
            low_value, high_value = w.cast(alpha, DataType.FLOAT32), w.cast(beta, DataType.FLOAT32)
            span = high_value
            if self.operation is FillOperation.RANDOM_UNIFORM:
                span = w.op("Sub", high_value, low_value)
            made = w.op("Add", w.op("Mul", made, span), low_value)
        return w.cast(made, self.to_type)


class NodeLayer(Layer):
    """Any ONNX operator, with its attributes as plain Python values."""

    kind = LayerType.NODE
    max_inputs: ClassVar[int] = 1 << 16

    def __init__(
        self, network: Any, inputs: Sequence[Any], op_type: str, attributes: dict[str, Any], **rest: Any
    ) -> None:
        self.op_type = op_type
        self.domain: str = rest.pop("domain", "")
        self.attributes = attributes
        super().__init__(network, inputs, **rest)
        for key, value in attributes.items():
            if value is None:
                raise ConfigError(f"{self.where}: attribute {key!r} is None; leave it out")

    @property
    def label(self) -> str:
        """What its name begins with until it is given one."""
        return self.op_type.lower()

    @property
    def where(self) -> str:
        """How errors call it."""
        return f"layer {self.name!r} ({self.op_type})"

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """The node."""
        version = None if not self.domain else self.network.domains.setdefault(self.domain, 1)
        attributes = {
            key: ir.tensor(value) if isinstance(value, np.ndarray) else value for key, value in self.attributes.items()
        }
        return w.ops(self.op_type, inputs, attributes, outputs=self.num_outputs, domain=self.domain, version=version)
