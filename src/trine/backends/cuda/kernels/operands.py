"""Operands of launches: Triton's names of types, what is known of addresses, and signatures in a function's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trine.backends.cuda.groups import ITEM_BYTES, Activation, View
from trine.backends.cuda.kernels.activations import short_name
from trine.backends.cuda.tactic import Argument, KernelSource, Launch, Pointer, Rows, Scalar, Scratch, TensorMap
from trine.backends.cuda.target import Target

__all__ = ["activation_constants", "launch_of", "power_of_two", "programs_wanted", "with_precision"]

_POINTERS = {
    "fp32": "*fp32",
    "fp16": "*fp16",
    "bf16": "*bf16",
    "int64": "*i64",
    "int32": "*i32",
    "int8": "*i8",
    "uint8": "*u8",
    "bool": "*i1",
}


def launch_of(
    function: Any,
    grid: tuple[int, int, int],
    arguments: Mapping[str, Argument | View | None],
    constants: Mapping[str, Any],
    num_warps: int = 4,
    num_stages: int = 3,
) -> Launch:
    """A launch of ``function`` with arguments by name: a View stands for its pointer, None for an absent operand.

    Addresses of arenas and weights are multiples of 16 bytes where the view's offset is. Those of the caller's arrays
    may be anything.
    """
    signature: dict[str, str] = {}
    values: list[Argument] = []
    fixed = dict(constants)
    divisible = []
    for name in function.arg_names:
        if name in constants:
            signature[name] = "constexpr"
            continue
        argument = arguments[name]
        if argument is None:
            signature[name] = "constexpr"
            fixed[name] = None
            continue
        if isinstance(argument, View):
            argument = Pointer(argument)
        signature[name], aligned = _type_of(argument)
        if aligned:
            divisible.append(name)
        values.append(argument)
    source = KernelSource(function, signature, fixed, num_warps, num_stages, tuple(divisible))
    return Launch(source, grid, tuple(values))


def _type_of(argument: Argument) -> tuple[str, bool]:
    """Triton's type, and whether it is a multiple of 16 (bytes or units)."""
    if isinstance(argument, Pointer):
        view = argument.view
        aligned = view.buffer.kind in ("arena", "weight") and view.offset * ITEM_BYTES[view.dtype] % 16 == 0
        return _POINTERS[view.dtype], aligned
    if isinstance(argument, Scratch):
        return _POINTERS[argument.buffer.dtype], True
    if isinstance(argument, Scalar):
        return argument.dtype, argument.dtype != "fp32" and argument.value % 16 == 0
    if isinstance(argument, TensorMap):
        return f"tensordesc<{argument.view.dtype}[{', '.join(map(str, argument.box))}]>", False
    assert isinstance(argument, Rows), argument
    return "i32", argument.factor % 16 == 0


def activation_constants(prefix: str, activation: Activation, dtype: str) -> dict[str, Any]:
    """``activation`` as the constants PREFIX, PREFIX_A and PREFIX_B of a kernel that stores ``dtype``."""
    name = short_name(activation.name, dtype)
    return {prefix: name, f"{prefix}_A": float(activation.a), f"{prefix}_B": float(activation.b)}


def power_of_two(number: int) -> int:
    """The least power of two that is not less."""
    return 1 << max(0, number - 1).bit_length()


def with_precision(configurations: Sequence[Mapping[str, Any]], dtype: str, target: Target) -> list[dict[str, Any]]:
    """The same, those for fp32 operands with how their products are formed: truly, or rounded to tf32."""
    added = {"precision": "tf32" if target.tf32 else "ieee"} if dtype == "fp32" else {}
    return [{**each, **added} for each in configurations]


def programs_wanted(multiprocessors: int) -> int:
    """How many programs of a few warps fill a GPU: several for each multiprocessor, to hide latency."""
    return 4 * multiprocessors
