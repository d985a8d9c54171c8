"""From groups.Expr to lines of a Triton function.

Each value has a kind: "f" (fp32, whatever floating type it came from or goes to), "b" (bool), or an integer type. A
constant takes the kind of what it meets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trine.backends.cuda.groups import Expr

__all__ = ["OPERATIONS", "Statements", "expression_name", "unknown_operations"]

_KINDS = {"fp32": "f", "fp16": "f", "bf16": "f", "bool": "b"}
_TYPES = {
    "f": "tl.float32",
    "b": "tl.int1",
    "int64": "tl.int64",
    "int32": "tl.int32",
    "int8": "tl.int8",
    "uint8": "tl.uint8",
}
_INTEGERS = ("uint8", "int8", "int32", "int64")  # the later wins
_FLOATING = {
    "sqrt": "tl.sqrt_rn({0})",
    "rsqrt": "1.0 / tl.sqrt_rn({0})",
    "reciprocal": "1.0 / {0}",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "erf": "tl.erf({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "sigmoid": 'activate({0}, "sigmoid", 0.0, 0.0)',
    "tanh": 'activate({0}, "tanh", 0.0, 0.0)',
}
_ROUNDING = {"floor": "tl.floor({0})", "ceil": "tl.ceil({0})"}
_ARITHMETIC = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "min": "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    "max": "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
}
_COMPARISONS = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_OTHERS = ("input", "constant", "cast", "act", "div", "pow", "mod", "neg", "abs", "sign", "round", "isnan", "where")
_LOGICAL = {"not": "{0} == 0", "and": "{0} & {1}", "or": "{0} | {1}"}
OPERATIONS = frozenset([*_OTHERS, *_FLOATING, *_ROUNDING, *_ARITHMETIC, *_COMPARISONS, *_LOGICAL])


@dataclass(frozen=True)
class _Value:
    text: str
    kind: str  # "f", "b", an integer type, or "constant"
    number: float | int | bool = 0


class Statements:
    """Lines that compute expressions; equal parts are computed once.

    inputs: the element type of each input, whose values are in variables ``in0``, ``in1``, ... already. unit: the text
    of a shape of ones with the rank of the values.
    """

    def __init__(self, inputs: Sequence[str], unit: str) -> None:
        self.lines: list[str] = []
        self._inputs = inputs
        self._unit = unit
        self._known: dict[Expr, _Value] = {}

    def store_value(self, expr: Expr, dtype: str) -> str:
        """The name of a variable with what is to be stored as ``dtype``; storing itself rounds."""
        kind = _KINDS.get(dtype, dtype)
        return self._as(self._value(expr), kind).text

    def _value(self, expr: Expr) -> _Value:
        if expr not in self._known:
            self._known[expr] = self._compute(expr)
        return self._known[expr]

    def _compute(self, expr: Expr) -> _Value:
        op = expr.op
        if op == "input":
            dtype = self._inputs[expr.index]
            return _Value(f"in{expr.index}", _KINDS.get(dtype, dtype))
        if op == "constant":
            return _Value("", "constant", expr.value)
        args = [self._value(each) for each in expr.args]
        if op == "cast":
            return self._as(args[0], _KINDS.get(expr.dtype, expr.dtype))
        if op == "act":
            act = expr.activation
            text = f'activate({{0}}, "{act.name}", {_literal(float(act.a))}, {_literal(float(act.b))})'
            return self._apply(text, [self._as(args[0], "f")], "f")
        if op in _FLOATING:
            return self._apply(_FLOATING[op], [self._as(args[0], "f")], "f")
        if op in _LOGICAL:
            return self._apply(_LOGICAL[op], [self._as(each, "b") for each in args], "b")
        if op in _COMPARISONS:
            kind = _common(args)
            return self._apply(f"{{0}} {_COMPARISONS[op]} {{1}}", [self._as(each, kind) for each in args], "b")
        if op == "where":
            kind = _common(args[1:], numbers=False)
            chosen = [self._as(args[0], "b"), *(self._as(each, kind) for each in args[1:])]
            return self._apply("tl.where({0}, {1}, {2})", chosen, kind)
        return self._numeric(op, args)

    def _numeric(self, op: str, args: list[_Value]) -> _Value:
        """Operations that exist for whole numbers and for fp32."""
        if op == "pow" and args[1].kind == "constant" and float(args[1].number) in _POWERS:
            kind = _common(args[:1])
            if kind == "f" or args[1].number in (2, 3):
                return self._apply(_POWERS[float(args[1].number)], [self._as(args[0], kind)], kind)
        kind = _common(args)
        if op == "pow":
            kind = "f"
        values = [self._as(each, kind) for each in args]
        if op in _ARITHMETIC:
            return self._apply(_ARITHMETIC[op], values, kind)
        if op in _ROUNDING or op == "round":
            if kind != "f":
                return values[0]
            if op == "round":  # half to even
                low = self._apply("tl.floor({0})", values, "f")
                rest = self._apply("{0} - {1}", [values[0], low], "f")
                tie = self._apply("{0} - 2.0 * tl.floor(0.5 * {0})", [low], "f")
                text = "{0} + tl.where({1} > 0.5, 1.0, tl.where({1} == 0.5, {2}, 0.0))"
                return self._apply(text, [low, rest, tie], "f")
            return self._apply(_ROUNDING[op], values, "f")
        if op == "div":
            return self._apply("{0} / {1}" if kind == "f" else "{0} // {1}", values, kind)
        if op == "mod":
            rest = self._apply("{0} % {1}", values, kind)
            if kind == "uint8":
                return rest
            # The sign of the divisor; Triton's % has that of the dividend.
            return self._apply(
                "tl.where(({0} != 0) & (({0} < 0) != ({1} < 0)), {0} + {1}, {0})", [rest, values[1]], kind
            )
        if op == "neg":
            return self._apply("-{0}", values, kind)
        if op == "abs":
            return self._apply("tl.abs({0})", values, kind)
        if op == "sign":
            zero, one = ("0.0", "1.0") if kind == "f" else ("0", "1")
            text = f"tl.where({{0}} > {zero}, {one}, tl.where({{0}} < {zero}, -{one}, {{0}}))"
            if kind == "uint8":
                text = "tl.where({0} > 0, 1, 0)"
            return self._as(self._apply(text, values, kind), kind, force=kind != "f")
        if op == "isnan":
            return self._apply("{0} != {0}", values, "b")
        assert op == "pow", op
        size = self._apply("tl.exp2({1} * tl.log2(tl.abs({0})))", values, "f")
        whole = self._apply("tl.floor({0}) == {0}", [values[1]], "b")
        odd = self._apply("tl.floor(0.5 * {0}) != 0.5 * {0}", [values[1]], "b")
        signed = self._apply('tl.where({1}, tl.where({2}, -{0}, {0}), float("nan"))', [size, whole, odd], "f")
        size = self._apply("tl.where({0} < 0.0, {1}, {2})", [values[0], signed, size], "f")
        return self._apply("tl.where(({1} == 0.0) | ({0} == 1.0), 1.0, {2})", [*values, size], "f")

    def _apply(self, text: str, values: Sequence[_Value], kind: str) -> _Value:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text.format(*(each.text for each in values))}")
        return _Value(name, kind)

    def _as(self, value: _Value, kind: str, force: bool = False) -> _Value:
        """``value`` as another kind."""
        if value.kind == kind and not force:
            return value
        if value.kind == "constant":
            number = float(value.number) if kind == "f" else bool(value.number) if kind == "b" else int(value.number)
            text = f"tl.full({self._unit}, {_literal(number)}, {_TYPES[kind]})"
            return self._apply(text, [], kind)
        if kind == "b":
            return self._apply("{0} != 0", [value], "b")
        return self._apply(f"{{0}}.to({_TYPES[kind]})", [value], kind)


_POWERS = {
    2.0: "{0} * {0}",
    3.0: "{0} * {0} * {0}",
    0.5: "tl.sqrt_rn({0})",
    -1.0: "1.0 / {0}",
    -0.5: "1.0 / tl.sqrt_rn({0})",
    -2.0: "1.0 / ({0} * {0})",
}


def _common(args: Sequence[_Value], numbers: bool = True) -> str:
    """The kind in which all can be computed. numbers: bool is none of them, and becomes int32."""
    kinds = {each.kind for each in args if each.kind != "constant"}
    constants = [each.number for each in args if each.kind == "constant"]
    if "f" in kinds or any(isinstance(each, float) and not each.is_integer() for each in constants):
        return "f"
    whole = [each for each in _INTEGERS if each in kinds]
    if whole:
        return whole[-1]
    if "b" in kinds:
        return "b" if not numbers and all(isinstance(each, bool) for each in constants) else "int32"
    if any(isinstance(each, float) for each in constants):
        return "f"
    return "b" if not numbers and all(isinstance(each, bool) for each in constants) else "int32"


def _literal(number: float | int | bool) -> str:
    if isinstance(number, float) and not math.isfinite(number):
        return f'float("{number}")'
    return repr(number)


def unknown_operations(expr: Expr) -> set[str]:
    """Names in ``expr`` that are not in OPERATIONS."""
    found = {expr.op} - OPERATIONS
    for each in expr.args:
        found |= unknown_operations(each)
    return found


def expression_name(expr: Expr) -> str:
    """A short name for profiles, from the outermost operations: "add_mul"."""
    names: list[str] = []
    level = [expr]
    while level and len(names) < 3:
        names += [each.activation.name if each.op == "act" else each.op for each in level]
        level = [arg for each in level for arg in each.args]
    names = [name for name in names if name not in ("input", "constant", "cast")][:3]
    return "_".join(names) or "copy"
