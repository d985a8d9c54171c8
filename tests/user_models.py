"""Models as users write them, for the importer's tests. Errors name lines of this file: ``line_of`` finds them."""

from __future__ import annotations

import collections
import dataclasses
import inspect
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # everyone's name for it
from torch import nn


def line_of(code: str) -> str:
    """ "user_models.py:LINE: CODE" of the only line here that reads ``code``."""
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        lines = [number for number, line in enumerate(file, 1) if line.strip() == code]
    assert len(lines) == 1, f"{code!r} is on lines {lines}"
    return f"user_models.py:{lines[0]}: {code}"


def module(forward: Any, **parts: Any) -> nn.Module:
    """A module with that forward and those submodules or buffers."""
    made = type(forward.__name__, (nn.Module,), {"forward": forward})()
    for name, part in parts.items():
        if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
            made.register_buffer(name, part)
        else:
            setattr(made, name, part)
    assert "self" in inspect.signature(forward).parameters
    return made


class Small(nn.Module):
    """A convolutional classifier with everything that eval mode changes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.act(self.norm(self.conv(image)))
        return self.head(self.drop(features.mean((2, 3))))


def branch_on_values(self: Any, x: torch.Tensor) -> torch.Tensor:
    if x.sum() > 0:
        return x
    return x + 1


def through_numpy(self: Any, x: torch.Tensor) -> torch.Tensor:
    scale = float(x.detach().cpu().numpy().mean())
    return x * scale


def through_item(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x * x.sum().item()


def loop_over_batch(self: Any, x: torch.Tensor) -> torch.Tensor:
    rows = [row * 2 for row in x]
    return torch.stack(rows)


def fixed_view(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x.view(2, -1) * 3


def two_unsupported(self: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    singular = torch.linalg.svdvals(x)
    orthogonal = torch.linalg.qr(x)[0]
    return singular, orthogonal


def fails_in_eager(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x @ torch.ones(7, 7)


def random_numbers(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x + torch.rand_like(x)


def counts_calls(self: Any, x: torch.Tensor) -> torch.Tensor:
    self.calls += 1
    return x * self.calls


def writes_to_its_input(self: Any, x: torch.Tensor) -> torch.Tensor:
    x.add_(1)
    x[:, 0] = 5
    return x * 2


Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    extra: Any = None


def nested(self: Any, d: dict[str, Any], *, scale: float = 1.0) -> Answer:
    return Answer(d["a"] * scale + d["b"][0], Pair(d["b"][1], [d["a"][:, 0], None, 3]))


def awkward_outputs(self: Any, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    doubled = x * 2
    return {
        "passed": x,
        "twice": doubled,
        "again": doubled,
        "view": doubled.t()[1:].t(),
        "constant": torch.arange(3) * 2,
        "weight": self.weight,
        "rows": x.shape[1],
    }


def ignores_second(self: Any, x: torch.Tensor, unused: torch.Tensor) -> torch.Tensor:
    return x * 2


def masked(self: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, x, 0.0).sum(-1)


def second_input_is_fixed(self: Any, x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return x @ table.view(2, 2, 2).flatten(1).t()


def own_data(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x.data * 2 + torch.tensor(3.0)


def returns_batch_size(self: Any, x: torch.Tensor) -> tuple[int, torch.Tensor]:
    return x.shape[0], x * 2


class Converted(nn.Module):
    """Calls of many kinds that a converter may replace."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = F.silu(self.relu(self.linear(x)) - 0.5)
        return own_function(y, shift=1.0), torch.tanh(y).sigmoid()


def own_function(x: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
    """Something of the user's own."""
    return torch.abs(x) + shift


class HoldsUnsupported(nn.Module):
    """Its inner module uses an operator that cannot be imported."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Energy()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x * 2) + 1


class Energy(nn.Module):
    """The squared singular values' sum, which is the squared elements' sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(x).square().sum(-1)


class SplitOutput(nn.Module):
    """Calls a function that returns several tensors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low, high = halves(x)
        return low - high


def halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = x.chunk(2, dim=1)
    return low, high
