"""The shapes of outputs from those of inputs, before anything ran: programs allocate by them.

An engine says a dimension as a number, a symbol of an input's ("batch"), or a product of these ("197*batch"). Any
other is found by running the engine on inputs made up in those shapes: twice, on zeros and on ones. Where the two
differ, the dimension depends on values, and is -1 as it is in TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trine.engine.manifest import TensorInfo
from trine.errors import InputError

__all__ = ["bind", "output_shapes"]

Shape = tuple[int, ...]
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def bind(inputs: Sequence[TensorInfo], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The size of each symbol in the inputs' shapes."""
    sizes: dict[str, int] = {}
    for info in inputs:
        for dim, size in zip(info.shape, shapes[info.name], strict=True):
            if isinstance(dim, str):
                sizes.setdefault(dim, size)
    return sizes


def output_shapes(
    inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], shapes: Mapping[str, Shape], run: Run
) -> dict[str, Shape]:
    """The shape of every output for inputs of ``shapes``; -1 for what depends on values."""
    sizes = bind(inputs, shapes)
    found = {info.name: tuple(_size(dim, sizes) for dim in info.shape) for info in outputs}
    if all(None not in shape for shape in found.values()):
        return {name: tuple(dim for dim in shape if dim is not None) for name, shape in found.items()}
    try:
        tried = [{name: array.shape for name, array in run(_filled(inputs, shapes, value)).items()} for value in (0, 1)]
    except (InputError, RuntimeError):  # the backends' own errors, for values that the model does not take
        return {name: tuple(-1 if dim is None else dim for dim in shape) for name, shape in found.items()}
    return {
        info.name: tuple(
            zero if zero == one else -1 for zero, one in zip(tried[0][info.name], tried[1][info.name], strict=True)
        )
        for info in outputs
    }


def _filled(inputs: Sequence[TensorInfo], shapes: Mapping[str, Shape], value: int) -> dict[str, np.ndarray]:
    return {info.name: np.full(shapes[info.name], value, info.dtype.numpy) for info in inputs}


def _size(dim: int | str, sizes: Mapping[str, int]) -> int | None:
    if isinstance(dim, int):
        return dim
    size = 1
    for factor in dim.split("*"):
        word = factor.strip()
        known = int(word) if word.isascii() and word.isdigit() and len(word) < 19 else sizes.get(word)
        if known is None:
            return None
        size *= known
    return size
