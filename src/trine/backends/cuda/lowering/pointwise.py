"""Operators that compute each element by itself, as expressions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from trine.backends.cuda.groups import Activation, Expr, Pointwise, View
from trine.backends.cuda.lowering.state import CannotLowerError, Lowering, value_name
from trine.backends.cuda.lowering.views import broadcast, memory_order

__all__ = ["POINTWISE", "lower_batch_norm", "lower_pointwise", "pointwise"]

Arguments = list[Expr]
Maker = Callable[[ir.Node, Arguments], Expr]


def lower_pointwise(lowering: Lowering, node: ir.Node) -> list[View]:
    """Any operator of POINTWISE: a constant of one element becomes part of the expression."""
    inputs: list[View] = []
    arguments: list[Expr] = []
    for position, value in enumerate(node.inputs):
        if value is None:
            arguments.append(Expr("none"))
            continue
        found = lowering.given(node, position)
        if isinstance(found, np.ndarray) and found.size == 1:
            arguments.append(number(found.reshape(()).item()))
            continue
        if isinstance(found, np.ndarray):
            found = lowering.weight(
                found, value_name(node, position), "fp32" if found.dtype.kind not in "iub" else None
            )
        assert found is not None
        arguments.append(Expr("input", index=len(inputs)))
        inputs.append(found)
    expr = POINTWISE[node.op_type](node, arguments)
    return [pointwise(lowering, expr, inputs, lowering.dtype_of(node), _shape(lowering, node))]


def pointwise(lowering: Lowering, expr: Expr, inputs: list[View], dtype: str, shape: tuple[int, ...]) -> View:
    """One group; the result lies in memory as the largest input does."""
    largest = max(inputs, key=lambda view: (view.elements, view.buffer.kind != "weight"))
    spread = [broadcast(view, shape) for view in inputs]
    order = None
    if largest.elements == math.prod(shape) and 0 not in [
        s for n, s in zip(largest.shape, largest.strides, strict=True) if n != 1
    ]:
        missing = len(shape) - len(largest.shape)
        order = [*range(missing), *(axis + missing for axis in memory_order(largest))]
    y = lowering.new(shape, dtype, order)
    return lowering.emit(Pointwise(name=lowering.name, y=y, inputs=tuple(spread), expr=expr))


def number(value: float | int | bool) -> Expr:
    """A constant."""
    return Expr("constant", value=value)


def lower_batch_norm(lowering: Lowering, node: ir.Node) -> list[View]:
    """``x * scale + shift`` with both worked out ahead of time."""
    x = lowering.view(node, 0)
    scale, bias, mean, variance = (lowering.constant(node, position) for position in range(1, 5))
    if (
        scale is None
        or bias is None
        or mean is None
        or variance is None
        or node.attributes.get_int("training_mode", 0) == 1
    ):
        raise CannotLowerError("batch normalisation must have constant statistics, and not be in training mode")
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    factor = (scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)).astype(np.float32)
    shift = (bias.astype(np.float64) - mean.astype(np.float64) * factor).astype(np.float32)
    ones = (1,) * (len(x.shape) - 2)
    name = value_name(node, 1)
    views = [lowering.weight(each.reshape(-1, *ones), name, "fp32") for each in (factor, shift)]
    expr = Expr("add", (Expr("mul", (Expr("input"), Expr("input", index=1))), Expr("input", index=2)))
    return [pointwise(lowering, expr, [x, *views], x.dtype, x.shape)]


def _shape(lowering: Lowering, node: ir.Node) -> tuple[int, ...]:
    shapes = [
        each.shape for position in range(len(node.inputs)) if (each := lowering.given(node, position)) is not None
    ]
    return np.broadcast_shapes(*shapes)


def _function(op: str) -> Maker:
    return lambda node, arguments: Expr(op, tuple(arguments))


def _folded(op: str) -> Maker:
    """Operators of any number of operands, two at a time."""

    def make(node: ir.Node, arguments: Arguments) -> Expr:
        result = arguments[0]
        for each in arguments[1:]:
            result = Expr(op, (result, each))
        return result

    return make


def _activation(name: str, **attributes: float) -> Maker:
    """Names of the attributes that are a and b, with ONNX's defaults, in that order."""

    def make(node: ir.Node, arguments: Arguments) -> Expr:
        numbers = [node.attributes.get_float(key, default) for key, default in attributes.items()]
        return Expr("act", (arguments[0],), activation=Activation(name, *numbers))

    return make


def _gelu(node: ir.Node, arguments: Arguments) -> Expr:
    name = "gelu_tanh" if node.attributes.get_string("approximate", "none") == "tanh" else "gelu"
    return Expr("act", (arguments[0],), activation=Activation(name))


def _swish(node: ir.Node, arguments: Arguments) -> Expr:
    alpha = node.attributes.get_float("alpha", 1.0)
    if alpha == 1.0:
        return Expr("act", (arguments[0],), activation=Activation("silu"))
    inner = Expr("mul", (arguments[0], number(alpha)))
    return Expr("mul", (arguments[0], Expr("act", (inner,), activation=Activation("sigmoid"))))


def _clip(node: ir.Node, arguments: Arguments) -> Expr:
    bounds = [node.attributes.get_float("min", -math.inf), node.attributes.get_float("max", math.inf)]
    for position in (1, 2):
        if position < len(arguments) and arguments[position].op != "none":
            bound = arguments[position]
            if bound.op != "constant":
                raise CannotLowerError("computed bounds are not supported")
            bounds[position - 1] = float(bound.value)
    return Expr("act", (arguments[0],), activation=Activation("clip", *bounds))


def _softplus(node: ir.Node, arguments: Arguments) -> Expr:
    x = arguments[0]
    tail = Expr("log", (Expr("add", (number(1.0), Expr("exp", (Expr("neg", (Expr("abs", (x,)),)),)))),))
    return Expr("add", (Expr("max", (x, number(0.0))), tail))


def _selu(node: ir.Node, arguments: Arguments) -> Expr:
    alpha = node.attributes.get_float("alpha", 1.6732632)
    gamma = node.attributes.get_float("gamma", 1.0507010)
    return Expr("mul", (Expr("act", (arguments[0],), activation=Activation("elu", alpha)), number(gamma)))


def _prelu(node: ir.Node, arguments: Arguments) -> Expr:
    x, slope = arguments
    return Expr("where", (Expr("lt", (x, number(0.0))), Expr("mul", (x, slope)), x))


def _softsign(node: ir.Node, arguments: Arguments) -> Expr:
    return Expr("div", (arguments[0], Expr("add", (number(1.0), Expr("abs", (arguments[0],))))))


def _power(node: ir.Node, arguments: Arguments) -> Expr:
    """Small exponents as products: powers of negative numbers are then right, and fast."""
    x, exponent = arguments
    known = exponent.value if exponent.op == "constant" else None
    simple = {
        1.0: x,
        2.0: Expr("mul", (x, x)),
        3.0: Expr("mul", (Expr("mul", (x, x)), x)),
        0.5: Expr("sqrt", (x,)),
        -0.5: Expr("rsqrt", (x,)),
        -1.0: Expr("reciprocal", (x,)),
    }
    return simple[float(known)] if known is not None and float(known) in simple else Expr("pow", (x, exponent))


def _cast(node: ir.Node, arguments: Arguments) -> Expr:
    names = {
        ir.DataType.INT64: "int64",
        ir.DataType.INT32: "int32",
        ir.DataType.INT8: "int8",
        ir.DataType.UINT8: "uint8",
        ir.DataType.BOOL: "bool",
    }
    dtype = ir.DataType(node.attributes.get_int("to", 1))
    return Expr("cast", (arguments[0],), dtype=names.get(dtype, "fp32"))


def _mean(node: ir.Node, arguments: Arguments) -> Expr:
    return Expr("mul", (_folded("add")(node, arguments), number(1.0 / len(arguments))))


def _mod(node: ir.Node, arguments: Arguments) -> Expr:
    if node.attributes.get_int("fmod", 0):
        raise CannotLowerError("fmod=1 is not supported")
    return Expr("mod", tuple(arguments))


POINTWISE: dict[str, Maker] = {
    "Abs": _function("abs"),
    "Add": _function("add"),
    "And": _function("and"),
    "Cast": _cast,
    "Ceil": _function("ceil"),
    "Clip": _clip,
    "Cos": _function("cos"),
    "Div": _function("div"),
    "Elu": _activation("elu", alpha=1.0),
    "Equal": _function("eq"),
    "Erf": _function("erf"),
    "Exp": _function("exp"),
    "Floor": _function("floor"),
    "Gelu": _gelu,
    "Greater": _function("gt"),
    "GreaterOrEqual": _function("ge"),
    "HardSigmoid": _activation("hardsigmoid", alpha=0.2, beta=0.5),
    "HardSwish": _activation("hardswish"),
    "IsNaN": _function("isnan"),
    "LeakyRelu": _activation("leaky_relu", alpha=0.01),
    "Less": _function("lt"),
    "LessOrEqual": _function("le"),
    "Log": _function("log"),
    "Max": _folded("max"),
    "Mean": _mean,
    "Min": _folded("min"),
    "Mish": _activation("mish"),
    "Mod": _mod,
    "Mul": _function("mul"),
    "Neg": _function("neg"),
    "Not": _function("not"),
    "Or": _function("or"),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": _function("reciprocal"),
    "Relu": _activation("relu"),
    "Round": _function("round"),
    "Selu": _selu,
    "Sigmoid": _activation("sigmoid"),
    "Sign": _function("sign"),
    "Sin": _function("sin"),
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Sqrt": _function("sqrt"),
    "Sub": _function("sub"),
    "Sum": _folded("add"),
    "Swish": _swish,
    "Tanh": _activation("tanh"),
    "Where": _function("where"),
}
