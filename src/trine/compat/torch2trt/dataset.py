"""Example inputs in several shapes: what they have in common becomes fixed, what differs becomes a range."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch

from trine.compat.torch2trt.flattener import Flattener
from trine.errors import ConfigError

__all__ = ["Dataset", "DatasetRecorder", "ListDataset", "TensorBatchDataset"]

Shape = tuple[int, ...]


class DatasetRecorder:
    """While open, the inputs of each call of a module are kept in a dataset."""

    def __init__(self, dataset: Dataset, module: torch.nn.Module) -> None:
        self.dataset = dataset
        self.module = module
        self._handle: Any = None

    def __enter__(self) -> DatasetRecorder:
        if self._handle is not None:
            raise ConfigError("this DatasetRecorder is open already; make another with dataset.record(module)")
        self._handle = self.module.register_forward_pre_hook(lambda module, inputs: self.dataset.insert(inputs))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()
        self._handle = None


class Dataset:
    """A sequence of calls' inputs, each a tuple or list of positional arguments. All have one structure."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def insert(self, item: Any) -> None:
        """Adds one call's inputs."""
        raise NotImplementedError

    def record(self, module: torch.nn.Module) -> DatasetRecorder:
        """``with dataset.record(module): module(x)`` inserts ``(x,)``."""
        return DatasetRecorder(self, module)

    @property
    def flattener(self) -> Flattener:
        """The structure of the first item. Raises ConfigError when there is none."""
        if len(self) == 0:
            raise ConfigError("the dataset is empty; insert at least one call's inputs")
        return Flattener.from_value(self[0])

    def num_inputs(self) -> int:
        """How many tensors a call takes."""
        return len(self.flattener)

    def getitem_flat(self, index: int) -> list[torch.Tensor]:
        """Item ``index`` as a row of tensors."""
        return self.flattener.flatten(self[index])

    def shapes(self, flat: bool = False) -> Any:
        """For each input, its shape in every item."""
        flattener = self.flattener
        rows = [[torch.Size(t.shape) for t in flattener.flatten(self[index])] for index in range(len(self))]
        columns = [list(column) for column in zip(*rows, strict=True)]
        return columns if flat else flattener.unflatten(columns)

    def min_shapes(self, flat: bool = False) -> Any:
        """For each input, the smallest size of each dimension."""
        return self._reduced(min, flat)

    def max_shapes(self, flat: bool = False) -> Any:
        """For each input, the largest size of each dimension."""
        return self._reduced(max, flat)

    def median_numel_shapes(self, flat: bool = False) -> Any:
        """The shapes of the item that is of middle size."""
        sizes = [sum(t.numel() for t in self.getitem_flat(index)) for index in range(len(self))]
        middle = sorted(range(len(sizes)), key=sizes.__getitem__)[len(sizes) // 2]
        found = [torch.Size(t.shape) for t in self.getitem_flat(middle)]
        return found if flat else self.flattener.unflatten(found)

    def infer_dynamic_axes(self, flat: bool = False) -> Any:
        """For each input, the dimensions whose size is not the same in all items."""
        low, high = self.min_shapes(flat=True), self.max_shapes(flat=True)
        axes = [
            [axis for axis, (a, b) in enumerate(zip(small, large, strict=True)) if a != b]
            for small, large in zip(low, high, strict=True)
        ]
        return axes if flat else self.flattener.unflatten(axes)

    def _reduced(self, which: Any, flat: bool) -> Any:
        found = []
        for index, column in enumerate(self.shapes(flat=True)):
            if len({len(shape) for shape in column}) != 1:
                raise ConfigError(f"input {index} has {[tuple(s) for s in column]}: give it one rank in every item")
            found.append(torch.Size(which(dims) for dims in zip(*column, strict=True)))
        return found if flat else self.flattener.unflatten(found)


class ListDataset(Dataset):
    """Items in a list."""

    def __init__(self, items: Iterable[Any] | None = None) -> None:
        self.items = list(items or [])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def insert(self, item: Any) -> None:
        """See Dataset."""
        self.items.append(item)


class TensorBatchDataset(Dataset):
    """Rows of batched tensors: item i is row i of each."""

    def __init__(self, tensors: Any = None) -> None:
        self._flattener: Flattener | None = None
        self.tensors: list[torch.Tensor] = []
        if tensors is not None:
            self.insert(tensors)

    def __len__(self) -> int:
        return len(self.tensors[0]) if self.tensors else 0

    def __getitem__(self, index: int) -> Any:
        if self._flattener is None or not 0 <= index < len(self):
            raise IndexError(f"the dataset has {len(self)} items, so no {index}")
        return self._flattener.unflatten([tensor[index : index + 1] for tensor in self.tensors])

    def insert(self, item: Any) -> None:
        """Adds the rows of a batch."""
        if self._flattener is None:
            self._flattener = Flattener.from_value(item)
            self.tensors = self._flattener.flatten(item)
        else:
            rows = self._flattener.flatten(item)
            self.tensors = [torch.cat(pair) for pair in zip(self.tensors, rows, strict=True)]
