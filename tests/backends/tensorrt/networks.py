"""Small networks of several kinds, for what is done to whole graphs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torchvision_shim
from torch import nn

import trine

torchvision_shim.define_missing_operators()  # before torchvision is imported

import torchvision  # noqa: E402

__all__ = ["NETWORKS", "cpu_engine"]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layers = kind(8, 16, num_layers=2, batch_first=True)  # type: ignore[call-arg]
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x)[0][:, -1])


class Language(nn.Module):
    """Tokens in; a mask made of float32's lowest number, as many models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.norm = nn.LayerNorm(32)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.words(tokens))
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 32**0.5
        masked = (tokens == 0).float()[:, None, :] * torch.finfo(torch.float32).min
        return torch.softmax(scores + masked, -1) @ self.value(x)


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
    )
    nn.init.normal_(model.heads.head.weight)  # zeros, as it comes
    return model


# Each with an example input of two rows.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "resnet18": (torchvision.models.resnet18, lambda: torch.randn(2, 3, 64, 64)),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, lambda: torch.randn(2, 3, 64, 64)),
    "vit": (vit, lambda: torch.randn(2, 3, 32, 32)),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2),
        lambda: torch.randn(2, 7, 32),
    ),
    "lstm": (lambda: Recurrent(nn.LSTM), lambda: torch.randn(2, 5, 8)),
    "gru": (lambda: Recurrent(nn.GRU), lambda: torch.randn(2, 5, 8)),
    "language": (Language, lambda: torch.tensor([[3, 7, 9, 0], [5, 0, 0, 0]])),
}


@functools.cache
def cpu_engine(name: str) -> tuple[trine.Engine, torch.Tensor, torch.Tensor]:
    """An engine for CPUs, batches 1 to 4, an input and the answer of PyTorch."""
    torch.manual_seed(0)
    make, example = NETWORKS[name]
    model, x = make(), example()
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # an average; with 0 and 1, what they start from, deep networks' outputs die out
    with torch.no_grad():
        for _ in range(4 if norms else 0):
            model.train()(torch.randn(8, *x.shape[1:]))
        model.eval()
        engine = trine.build(model, (x,), batch=(1, 2, 4), tactics=("onnxruntime",), verify=False)
        return engine, x, model(x)
