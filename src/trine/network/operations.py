"""TensorRT's names for what a layer computes, and the ONNX operators they stand for."""

from __future__ import annotations

import enum

__all__ = ["ACTIVATIONS", "ELEMENTWISE", "ActivationType", "ElementWiseOperation"]


class ActivationType(enum.Enum):
    """The function that an activation layer applies to each element."""

    RELU = 0
    SIGMOID = 1
    TANH = 2
    LEAKY_RELU = 3
    ELU = 4
    SELU = 5
    SOFTSIGN = 6
    SOFTPLUS = 7
    HARD_SIGMOID = 8


class ElementWiseOperation(enum.Enum):
    """The function that an element-wise layer applies to each pair of elements, with broadcasting."""

    SUM = 0
    PROD = 1
    MAX = 2
    MIN = 3
    SUB = 4
    DIV = 5
    POW = 6
    EQUAL = 7
    GREATER = 8
    LESS = 9


# ONNX operator, and the ONNX attributes that the layer's alpha and beta set.
ACTIVATIONS: dict[ActivationType, tuple[str, tuple[str, ...]]] = {
    ActivationType.RELU: ("Relu", ()),
    ActivationType.SIGMOID: ("Sigmoid", ()),
    ActivationType.TANH: ("Tanh", ()),
    ActivationType.LEAKY_RELU: ("LeakyRelu", ("alpha",)),
    ActivationType.ELU: ("Elu", ("alpha",)),
    ActivationType.SELU: ("Selu", ("alpha", "gamma")),
    ActivationType.SOFTSIGN: ("Softsign", ()),
    ActivationType.SOFTPLUS: ("Softplus", ()),
    ActivationType.HARD_SIGMOID: ("HardSigmoid", ("alpha", "beta")),
}

ELEMENTWISE: dict[ElementWiseOperation, str] = {
    ElementWiseOperation.SUM: "Add",
    ElementWiseOperation.PROD: "Mul",
    ElementWiseOperation.MAX: "Max",
    ElementWiseOperation.MIN: "Min",
    ElementWiseOperation.SUB: "Sub",
    ElementWiseOperation.DIV: "Div",
    ElementWiseOperation.POW: "Pow",
    ElementWiseOperation.EQUAL: "Equal",
    ElementWiseOperation.GREATER: "Greater",
    ElementWiseOperation.LESS: "Less",
}
