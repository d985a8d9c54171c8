"""Layers that compute each element of the output from the elements at the same place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from trine.network.layer import Layer, sized
from trine.network.operations import (
    ActivationType,
    ElementWiseOperation,
    LayerType,
    ScaleMode,
    UnaryOperation,
)
from trine.network.settings import Setting, choice, dtype, number, optional, weights, whole
from trine.network.writer import Writer

__all__ = [
    "ActivationLayer",
    "CastLayer",
    "ElementWiseLayer",
    "IdentityLayer",
    "ParametricReLULayer",
    "ScaleLayer",
    "SelectLayer",
    "UnaryLayer",
]

_A, _E, _U = ActivationType, ElementWiseOperation, UnaryOperation

# The ONNX operator, what it calls alpha and beta, and their values until they are set.
ACTIVATIONS: dict[ActivationType, tuple[str, tuple[str, ...], tuple[float, float]]] = {
    _A.RELU: ("Relu", (), (0.0, 0.0)),
    _A.SIGMOID: ("Sigmoid", (), (0.0, 0.0)),
    _A.TANH: ("Tanh", (), (0.0, 0.0)),
    _A.LEAKY_RELU: ("LeakyRelu", ("alpha",), (0.01, 0.0)),
    _A.ELU: ("Elu", ("alpha",), (1.0, 0.0)),
    _A.SELU: ("Selu", ("alpha", "gamma"), (1.67326319217681884765625, 1.05070102214813232421875)),
    _A.SOFTSIGN: ("Softsign", (), (0.0, 0.0)),
    _A.SOFTPLUS: ("Softplus", (), (1.0, 1.0)),
    _A.CLIP: ("Clip", (), (-math.inf, math.inf)),
    _A.HARD_SIGMOID: ("HardSigmoid", ("alpha", "beta"), (0.2, 0.5)),
    _A.SCALED_TANH: ("Tanh", (), (1.0, 1.0)),
    _A.THRESHOLDED_RELU: ("ThresholdedRelu", ("alpha",), (1.0, 0.0)),
    _A.GELU_ERF: ("Gelu", (), (0.0, 0.0)),
    _A.GELU_TANH: ("Gelu", (), (0.0, 0.0)),
}

ELEMENTWISE: dict[ElementWiseOperation, str] = {
    _E.SUM: "Add",
    _E.PROD: "Mul",
    _E.MAX: "Max",
    _E.MIN: "Min",
    _E.SUB: "Sub",
    _E.DIV: "Div",
    _E.POW: "Pow",
    _E.FLOOR_DIV: "Div",
    _E.AND: "And",
    _E.OR: "Or",
    _E.XOR: "Xor",
    _E.EQUAL: "Equal",
    _E.GREATER: "Greater",
    _E.LESS: "Less",
}

UNARY: dict[UnaryOperation, str] = {
    _U.EXP: "Exp",
    _U.LOG: "Log",
    _U.SQRT: "Sqrt",
    _U.RECIP: "Reciprocal",
    _U.ABS: "Abs",
    _U.NEG: "Neg",
    _U.SIN: "Sin",
    _U.COS: "Cos",
    _U.TAN: "Tan",
    _U.SINH: "Sinh",
    _U.COSH: "Cosh",
    _U.ASIN: "Asin",
    _U.ACOS: "Acos",
    _U.ATAN: "Atan",
    _U.ASINH: "Asinh",
    _U.ACOSH: "Acosh",
    _U.ATANH: "Atanh",
    _U.CEIL: "Ceil",
    _U.FLOOR: "Floor",
    _U.ERF: "Erf",
    _U.NOT: "Not",
    _U.SIGN: "Sign",
    _U.ROUND: "Round",
    _U.ISINF: "IsInf",
    _U.ISNAN: "IsNaN",
}


class ActivationLayer(Layer):
    """A function of each element; ``alpha`` and ``beta`` where the function has them."""

    kind = LayerType.ACTIVATION

    activation_type = Setting(choice(ActivationType), ActivationType.RELU)
    alpha = Setting(number, lambda layer: ACTIVATIONS[layer.activation_type][2][0])
    beta = Setting(number, lambda layer: ACTIVATIONS[layer.activation_type][2][1])

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """One node, with products around it where ONNX's function has no factors."""
        x = inputs[0]
        kind = self.activation_type
        op_type, names, _ = ACTIVATIONS[kind]
        if kind is _A.CLIP:
            return [w.op("Clip", x, self._limit(w, self.alpha, x), self._limit(w, self.beta, x))]
        if kind in (_A.GELU_ERF, _A.GELU_TANH):
            return [w.op("Gelu", x, approximate="tanh" if kind is _A.GELU_TANH else "none")]
        if kind in (_A.SOFTPLUS, _A.SCALED_TANH):
            if self.beta != 1:
                x = w.op("Mul", x, w.scalar(self.beta, x))
            made = w.op(op_type, x)
            return [made if self.alpha == 1 else w.op("Mul", made, w.scalar(self.alpha, made))]
        attributes: dict[str, Any] = dict(zip(names, (self.alpha, self.beta), strict=False))
        return [w.op(op_type, x, **attributes)]

    def _limit(self, w: Writer, limit: float, x: ir.Value) -> ir.Value | None:
        return None if math.isinf(limit) else w.scalar(limit, x)


class ElementWiseLayer(Layer):
    """A function of the elements of two tensors, whose shapes broadcast as NumPy's do."""

    kind = LayerType.ELEMENTWISE
    max_inputs: ClassVar[int] = 2

    op = Setting(choice(ElementWiseOperation), ElementWiseOperation.SUM)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """One node; floor division is a quotient rounded down, for whole numbers too."""
        a, b = inputs
        if a is None or b is None:
            raise w.error("it needs two inputs")
        if self.op is not _E.FLOOR_DIV:
            return [w.op(ELEMENTWISE[self.op], a, b)]
        if w.dtype(a).is_floating:
            return [w.op("Floor", w.op("Div", a, b))]
        return [w.op("Div", w.op("Sub", a, w.op("Mod", a, b)), b)]  # ONNX's Div cuts toward zero


class UnaryLayer(Layer):
    """A function of each element."""

    kind = LayerType.UNARY

    op = Setting(choice(UnaryOperation), UnaryOperation.EXP)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """One node."""
        return [w.op(UNARY[self.op], inputs[0])]


class SelectLayer(Layer):
    """Elements of input 1 where the condition, input 0, is true; of input 2 elsewhere. Shapes broadcast."""

    kind = LayerType.SELECT
    max_inputs: ClassVar[int] = 3

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Where."""
        return [w.op("Where", *inputs)]


class ParametricReLULayer(Layer):
    """x where it is positive, x times the slope (input 1, which broadcasts to x) where it is not."""

    kind = LayerType.PARAMETRIC_RELU
    max_inputs: ClassVar[int] = 2

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """PRelu."""
        return [w.op("PRelu", *inputs)]


class CastLayer(Layer):
    """Each element as another dtype."""

    kind = LayerType.CAST

    to_type = Setting(dtype)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Cast."""
        return [w.op("Cast", inputs[0], to=self.to_type.onnx)]


class IdentityLayer(Layer):
    """A copy."""

    kind = LayerType.IDENTITY

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Identity."""
        return [w.op("Identity", inputs[0])]


class ScaleLayer(Layer):
    """(x * scale + shift) ** power, each coefficient for the tensor, for a channel, or for an element.

    A channel is an index of ``channel_axis``; ELEMENTWISE coefficients have the shape of the dimensions from that axis
    on. A coefficient that is None does nothing.
    """

    kind = LayerType.SCALE

    mode = Setting(choice(ScaleMode), ScaleMode.UNIFORM)
    shift = Setting(optional(weights))
    scale = Setting(optional(weights))
    power = Setting(optional(weights))
    channel_axis = Setting(whole(0), 1)

    def write(self, w: Writer, inputs: list[Any]) -> Sequence[ir.Value]:
        """Mul, Add, Pow, as far as there are coefficients."""
        x = inputs[0]
        if not w.dtype(x).is_floating:
            raise w.error(f"expected an input of a floating-point dtype, got {w.dtype(x).value}; use add_cast")
        made = x
        for op_type, label in (("Mul", "scale"), ("Add", "shift"), ("Pow", "power")):
            tensor: ir.TensorProtocol | None = getattr(self, label)
            if tensor is not None and tensor.size:
                made = w.op(op_type, made, sized(w, tensor, self._shape(w, x), w.dtype(x), label))
        return [w.op("Identity", x) if made is x else made]

    def _shape(self, w: Writer, x: ir.Value) -> tuple[int, ...]:
        if self.mode is ScaleMode.UNIFORM:
            return ()
        dims = w.dims(x)
        axis = self.channel_axis
        if axis >= len(dims):
            raise w.unfinished(f"channel_axis {axis} is out of range for a tensor of {len(dims)} dimensions")
        last = axis + 1 if self.mode is ScaleMode.CHANNEL else len(dims)
        own = dims[axis:last]
        known = tuple(dim for dim in own if isinstance(dim, int))
        if len(known) != len(own):
            raise w.error(f"the dimensions with a coefficient each must be known, got {own}")
        return known + (1,) * (len(dims) - last)
