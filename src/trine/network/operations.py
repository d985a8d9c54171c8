"""What layers compute, and how: the choices of each layer kind, with TensorRT's names and numbers.

Wherever a layer takes one of these, it also takes its name as a string, and a member of another library's enum that has
the same name (``tensorrt.ActivationType.RELU``).
"""

from __future__ import annotations

import enum
from typing import Any, TypeVar

from trine.errors import ConfigError

__all__ = [
    "ActivationType",
    "AttentionNormalizationOp",
    "BoundingBoxFormat",
    "CausalMaskKind",
    "CumulativeOperation",
    "ElementWiseOperation",
    "FillOperation",
    "GatherMode",
    "InterpolationMode",
    "LayerType",
    "LoopOutput",
    "MatrixOperation",
    "PaddingMode",
    "PoolingType",
    "ReduceOperation",
    "ResizeCoordinateTransformation",
    "ResizeMode",
    "ResizeRoundMode",
    "ResizeSelector",
    "SampleMode",
    "ScaleMode",
    "ScatterMode",
    "SliceMode",
    "TopKOperation",
    "TripLimit",
    "UnaryOperation",
    "member",
]


class Choice(enum.Enum):
    """An enum whose members convert to their number with ``int()``, and that are equal only to themselves."""

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)


C = TypeVar("C", bound=Choice)


def member(kind: type[C], value: Any, where: str) -> C:
    """The member of ``kind`` that ``value`` is, or is called; ``where`` starts the text of the ConfigError."""
    if isinstance(value, kind):
        return value
    name = value if isinstance(value, str) else getattr(value, "name", str(value))
    found = kind.__members__.get(name)
    if found is None:
        raise ConfigError(f"{where}: {kind.__name__} {name!r} is unknown; allowed: {', '.join(kind.__members__)}")
    return found


class ActivationType(Choice):
    """The function that an activation layer applies to each element ``x``."""

    RELU = 0
    SIGMOID = 1
    TANH = 2
    LEAKY_RELU = 3  # x >= 0 ? x : alpha * x
    ELU = 4  # x >= 0 ? x : alpha * (exp(x) - 1)
    SELU = 5  # x > 0 ? beta * x : beta * (alpha * exp(x) - alpha)
    SOFTSIGN = 6  # x / (1 + |x|)
    SOFTPLUS = 7  # alpha * log(exp(beta * x) + 1)
    CLIP = 8  # max(alpha, min(beta, x))
    HARD_SIGMOID = 9  # max(0, min(1, alpha * x + beta))
    SCALED_TANH = 10  # alpha * tanh(beta * x)
    THRESHOLDED_RELU = 11  # x > alpha ? x : 0
    GELU_ERF = 12
    GELU_TANH = 13


class AttentionNormalizationOp(Choice):
    """What is done to the scores of an attention layer."""

    NONE = 0
    SOFTMAX = 1


class BoundingBoxFormat(Choice):
    """How the four numbers of a box are meant."""

    CORNER_PAIRS = 0  # x1, y1, x2, y2
    CENTER_SIZES = 1  # x centre, y centre, width, height


class CausalMaskKind(Choice):
    """Which keys a query of an attention layer may see: those up to the diagonal from this corner."""

    NONE = 0
    UPPER_LEFT = 1
    LOWER_RIGHT = 2


class CumulativeOperation(Choice):
    """What a cumulative layer accumulates."""

    SUM = 0


class ElementWiseOperation(Choice):
    """The function that an element-wise layer applies to each pair of elements, with broadcasting."""

    SUM = 0
    PROD = 1
    MAX = 2
    MIN = 3
    SUB = 4
    DIV = 5
    POW = 6
    FLOOR_DIV = 7
    AND = 8
    OR = 9
    XOR = 10
    EQUAL = 11
    GREATER = 12
    LESS = 13


class FillOperation(Choice):
    """What a fill layer fills its output with."""

    LINSPACE = 0
    RANDOM_UNIFORM = 1
    RANDOM_NORMAL = 2


class GatherMode(Choice):
    """How the indices of a gather layer are meant: as in ONNX's Gather, GatherElements or GatherND."""

    DEFAULT = 0
    ELEMENT = 1
    ND = 2


class InterpolationMode(Choice):
    """How values between samples are found."""

    NEAREST = 0
    LINEAR = 1
    CUBIC = 2


ResizeMode = InterpolationMode  # its name up to TensorRT 8.4


class LayerType(Choice):
    """The kind of a layer. Negative numbers are kinds that TensorRT does not have, or has no more."""

    NODE = -2  # any ONNX operator, see Network.add_node
    FULLY_CONNECTED = -1
    CONVOLUTION = 0
    CAST = 1
    ACTIVATION = 2
    POOLING = 3
    LRN = 4
    SCALE = 5
    SOFTMAX = 6
    DECONVOLUTION = 7
    CONCATENATION = 8
    ELEMENTWISE = 9
    PLUGIN = 10
    UNARY = 11
    PADDING = 12
    SHUFFLE = 13
    REDUCE = 14
    TOPK = 15
    GATHER = 16
    MATRIX_MULTIPLY = 17
    RAGGED_SOFTMAX = 18
    CONSTANT = 19
    IDENTITY = 20
    PLUGIN_V2 = 21
    SLICE = 22
    SHAPE = 23
    PARAMETRIC_RELU = 24
    RESIZE = 25
    TRIP_LIMIT = 26
    RECURRENCE = 27
    ITERATOR = 28
    LOOP_OUTPUT = 29
    SELECT = 30
    FILL = 31
    QUANTIZE = 32
    DEQUANTIZE = 33
    CONDITION = 34
    CONDITIONAL_INPUT = 35
    CONDITIONAL_OUTPUT = 36
    SCATTER = 37
    EINSUM = 38
    ASSERTION = 39
    ONE_HOT = 40
    NON_ZERO = 41
    GRID_SAMPLE = 42
    NMS = 43
    REVERSE_SEQUENCE = 44
    NORMALIZATION = 45
    PLUGIN_V3 = 46
    SQUEEZE = 47
    UNSQUEEZE = 48
    CUMULATIVE = 49
    DYNAMIC_QUANTIZE = 50
    ATTENTION_INPUT = 51
    ATTENTION_OUTPUT = 52
    ROTARY_EMBEDDING = 53
    KV_CACHE_UPDATE = 54
    MOE = 55
    DIST_COLLECTIVE = 56


class LoopOutput(Choice):
    """What leaves a loop: a recurrence's last value, or a tensor's values of all iterations."""

    LAST_VALUE = 0
    CONCATENATE = 1
    REVERSE = 2


class MatrixOperation(Choice):
    """What a matrix multiplication does to an input first."""

    NONE = 0
    TRANSPOSE = 1
    VECTOR = 2


class PaddingMode(Choice):
    """How convolution, deconvolution and pooling find their padding, and round their output's size."""

    EXPLICIT_ROUND_DOWN = 0
    EXPLICIT_ROUND_UP = 1
    SAME_UPPER = 2
    SAME_LOWER = 3


class PoolingType(Choice):
    """What a pooling layer makes of a window. MAX_AVERAGE_BLEND: (1 - blend_factor) * max + blend_factor * average."""

    MAX = 0
    AVERAGE = 1
    MAX_AVERAGE_BLEND = 2


class ReduceOperation(Choice):
    """What a reduction makes of the elements along its axes."""

    SUM = 0
    PROD = 1
    MAX = 2
    MIN = 3
    AVG = 4
    NONE = 5  # of collectives; a reduce layer refuses it


class ResizeCoordinateTransformation(Choice):
    """Which place of the input a place of a resize layer's output is taken from."""

    ALIGN_CORNERS = 0
    ASYMMETRIC = 1
    HALF_PIXEL = 2


class ResizeRoundMode(Choice):
    """How a nearest-neighbour resize rounds a coordinate."""

    HALF_UP = 0
    HALF_DOWN = 1
    FLOOR = 2
    CEIL = 3


class ResizeSelector(Choice):
    """What a resize to a single pixel takes: what the formula says, or the first pixel."""

    FORMULA = 0
    UPPER = 1


class SampleMode(Choice):
    """What is taken from outside of a tensor, by a slice or a grid sample."""

    STRICT_BOUNDS = 0
    DEFAULT = 0  # STRICT_BOUNDS' name up to TensorRT 8.4
    WRAP = 1
    CLAMP = 2
    FILL = 3
    REFLECT = 4


SliceMode = SampleMode  # its name up to TensorRT 8.4


class ScaleMode(Choice):
    """Which elements of a scale layer share a coefficient."""

    UNIFORM = 0
    CHANNEL = 1
    ELEMENTWISE = 2


class ScatterMode(Choice):
    """How the indices of a scatter layer are meant: as in ONNX's ScatterElements or ScatterND."""

    ELEMENT = 0
    ND = 1


class TopKOperation(Choice):
    """Which elements a top-k layer looks for."""

    MAX = 0
    MIN = 1


class TripLimit(Choice):
    """What ends a loop: a number of iterations, or a condition that is false."""

    COUNT = 0
    WHILE = 1


class UnaryOperation(Choice):
    """The function that a unary layer applies to each element."""

    EXP = 0
    LOG = 1
    SQRT = 2
    RECIP = 3
    ABS = 4
    NEG = 5
    SIN = 6
    COS = 7
    TAN = 8
    SINH = 9
    COSH = 10
    ASIN = 11
    ACOS = 12
    ATAN = 13
    ASINH = 14
    ACOSH = 15
    ATANH = 16
    CEIL = 17
    FLOOR = 18
    ERF = 19
    NOT = 20
    SIGN = 21
    ROUND = 22
    ISINF = 23
    ISNAN = 24
