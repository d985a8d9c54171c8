"""What converters write into: TensorRT's network over the one that trine's importer gives, and tensors both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from trine.compat.tensorrt.builder import Builder
from trine.compat.tensorrt.logger import Logger
from trine.compat.tensorrt.network import INetworkDefinition
from trine.compat.tensorrt.tensor import ITensor
from trine.errors import ModelImportError
from trine.network import Network, Tensor

__all__ = ["OfferedNetwork", "tensors_in", "trine_tensor"]

_Result = TypeVar("_Result")


class OfferedNetwork(INetworkDefinition):
    """TensorRT's network, which writes into the place of one call.

    Unlike a program's own, it raises what trine refuses: the importer then names the converter.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(Builder(Logger()), frozenset({"EXPLICIT_BATCH"}), 1, False)
        self._net = network

    def offer(self, tensor: Tensor) -> ITensor:
        """TensorRT's tensor for one of trine's."""
        return self._wrap(tensor)

    def _attempt(self, where: str, action: Callable[[], _Result]) -> _Result | None:
        return action()


def trine_tensor(tensor: Any, converter: str) -> Tensor:
    """trine's tensor for what a converter set as ``_trt``. Raises ModelImportError for what is none."""
    found = tensor._tensor if isinstance(tensor, ITensor) else tensor
    if not isinstance(found, Tensor):
        raise ModelImportError(
            f"converter {converter!r}: _trt must be a tensor of the network, got {type(tensor).__name__}; for a layer, "
            "set layer.get_output(0)"
        )
    return found


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every PyTorch tensor in a nest of tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
