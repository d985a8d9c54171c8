"""What is known of the integers inside small values, so that a shape that layers compute is known at once.

ONNX infers one node at a time from types and constants. Shape arithmetic (shape, slice, concatenate, reshape) also
carries symbols: after a reshape to what was sliced from another tensor's shape, the output still has its "batch".
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

__all__ = ["Contents", "contents_of", "propagate", "refine_shape", "set_contents"]

Item = int | str | None  # a number, the symbol of a dim, or not known
Contents = tuple[Item, ...]

_KEY = "trine.contents"
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
_LONGEST = 64


def contents_of(value: ir.Value | None) -> Contents | None:
    """The elements of a value of at most one dimension; None where nothing is known."""
    return None if value is None else value.meta.get(_KEY)


def set_contents(value: ir.Value, contents: Contents | None) -> None:
    """Says what the elements of ``value`` are."""
    if contents is not None and len(contents) <= _LONGEST:
        value.meta[_KEY] = contents


def _dims(value: ir.Value) -> list[Item] | None:
    if value.shape is None:
        return None
    return [dim if isinstance(dim, int) else None if dim.value is None else str(dim.value) for dim in value.shape]


def _int_attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def propagate(node: ir.Node) -> None:
    """Sets the contents of the node's output from those of its inputs, where that can be told."""
    if node.domain or len(node.outputs) != 1:
        return
    output = node.outputs[0]
    if output.dtype not in _INTEGERS or output.shape is None or len(output.shape) > 1:
        return
    rule = _RULES.get(node.op_type)
    if rule is not None:
        set_contents(output, rule(node))


def _same(node: ir.Node) -> Contents | None:
    return contents_of(node.inputs[0])


def _shape(node: ir.Node) -> Contents | None:
    source = node.inputs[0]
    dims = None if source is None else _dims(source)
    if dims is None:
        return None
    end = _int_attribute(node, "end", len(dims))
    return tuple(dims[_int_attribute(node, "start", 0) : end])


def _numbers(value: ir.Value | None) -> list[int] | None:
    contents = contents_of(value)
    if contents is None or not all(isinstance(item, int) for item in contents):
        return None
    return [item for item in contents if isinstance(item, int)]


def _gather(node: ir.Node) -> Contents | None:
    data, indices = contents_of(node.inputs[0]), _numbers(node.inputs[1])
    if data is None or indices is None or any(not -len(data) <= index < len(data) for index in indices):
        return None
    return tuple(data[index] for index in indices)


def _slice(node: ir.Node) -> Contents | None:
    data = contents_of(node.inputs[0])
    start, end = _numbers(node.inputs[1]), _numbers(node.inputs[2])
    step = _numbers(node.inputs[4]) if len(node.inputs) > 4 else [1]
    if data is None or not start or not end or not step or node.inputs[0] is None or len(start) != 1:
        return None
    low = max(start[0], -len(data))
    high = None if end[0] < -len(data) and step[0] < 0 else end[0]
    return data[low : high : step[0]]


def _concat(node: ir.Node) -> Contents | None:
    parts = [contents_of(value) for value in node.inputs]
    return None if any(part is None for part in parts) else tuple(item for part in parts if part for item in part)


def _range(node: ir.Node) -> Contents | None:
    ends = [_numbers(value) for value in node.inputs]
    if any(not end for end in ends):
        return None
    start, limit, delta = (end[0] for end in ends if end)
    return tuple(range(start, limit, delta))[: _LONGEST + 1] if delta else None


def _product(node: ir.Node) -> Contents | None:
    data = contents_of(node.inputs[0])
    if data is None or len(node.inputs) > 1:
        return None
    symbols = [item for item in data if not isinstance(item, int)]
    number = math.prod(item for item in data if isinstance(item, int))
    if not symbols:
        return (number,)
    return (symbols[0],) if len(symbols) == 1 and number == 1 else (None,)


def _elementwise(compute: Callable[[Any, Any], Any], neutral: int | None, commutes: bool) -> Any:
    """A rule that computes numbers, and keeps a symbol beside the neutral element."""

    def one(a: Item, b: Item) -> Item:
        if isinstance(a, int) and isinstance(b, int):
            try:
                return int(compute(a, b))
            except ZeroDivisionError:
                return None
        if neutral is not None and b == neutral:
            return a
        return b if neutral is not None and commutes and a == neutral else None

    def rule(node: ir.Node) -> Contents | None:
        if len(node.inputs) != 2:
            return None
        a, b = contents_of(node.inputs[0]), contents_of(node.inputs[1])
        if a is None or b is None or (len(a) != len(b) and 1 not in (len(a), len(b))):
            return None
        length = max(len(a), len(b)) if min(len(a), len(b)) else 0
        return tuple(one(a[i % len(a)], b[i % len(b)]) for i in range(length))

    return rule


def _divide(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)  # ONNX cuts toward zero
    return quotient if (a < 0) == (b < 0) else -quotient


_RULES: dict[str, Callable[[ir.Node], Contents | None]] = {
    "Identity": _same,
    "Cast": _same,
    "Squeeze": _same,
    "Unsqueeze": _same,
    "Reshape": _same,
    "Shape": _shape,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Range": _range,
    "ReduceProd": _product,
    "Add": _elementwise(operator.add, 0, True),
    "Sub": _elementwise(operator.sub, 0, False),
    "Mul": _elementwise(operator.mul, 1, True),
    "Div": _elementwise(_divide, 1, False),
    "Max": _elementwise(max, None, True),
    "Min": _elementwise(min, None, True),
    "Mod": _elementwise(operator.mod, None, False),
}


def refine_shape(node: ir.Node) -> None:
    """Fills dims that ONNX left open in the output of a node whose shape another input says."""
    if node.domain or node.op_type not in ("Reshape", "Expand", "ConstantOfShape", "Resize"):
        return
    output, source = node.outputs[0], node.inputs[0]
    wanted: Sequence[Item] | None
    if node.op_type == "Reshape":
        wanted = _reshaped(source, contents_of(node.inputs[1]), _int_attribute(node, "allowzero", 0) == 1)
    elif node.op_type == "Expand":
        wanted = _expanded(source, contents_of(node.inputs[1]))
    elif node.op_type == "ConstantOfShape":
        wanted = contents_of(source)
    else:
        wanted = contents_of(node.inputs[3]) if len(node.inputs) > 3 and "axes" not in node.attributes else None
    if wanted is None:
        return
    known = _dims(output) or [None] * len(wanted)
    if len(known) == len(wanted):
        output.shape = ir.Shape([new if old is None else old for old, new in zip(known, wanted, strict=True)])


def _reshaped(source: ir.Value | None, target: Contents | None, zero_is_zero: bool) -> Sequence[Item] | None:
    dims = None if source is None else _dims(source)
    if target is None or dims is None:
        return target and [None if item in (0, -1) else item for item in target]
    made: list[Item] = [
        dims[axis] if item == 0 and not zero_is_zero and axis < len(dims) else item for axis, item in enumerate(target)
    ]
    if -1 in made:
        left = Counter(item for item in dims if not isinstance(item, int))
        left.subtract(item for item in made if not isinstance(item, int))
        symbols = [item for item, count in left.items() if count]
        have = math.prod(item for item in dims if isinstance(item, int))
        used = math.prod(item for item in made if isinstance(item, int) and item != -1)
        rest: Item = None
        if None not in dims and None not in made and used and have % used == 0:
            if not symbols:
                rest = have // used
            elif len(symbols) == 1 and left[symbols[0]] == 1 and have == used:
                rest = symbols[0]
        made[made.index(-1)] = rest
    return made


def _expanded(source: ir.Value | None, target: Contents | None) -> Sequence[Item] | None:
    dims = None if source is None else _dims(source)
    if dims is None or target is None:
        return None
    rank = max(len(dims), len(target))
    a = [1] * (rank - len(dims)) + dims
    b = [1] * (rank - len(target)) + list(target)
    return [
        y if x == 1 else x if y == 1 or x == y else x if isinstance(x, int) else None for x, y in zip(a, b, strict=True)
    ]
