"""The models that are timed: torchvision's, with random weights and BatchNorm statistics that fit them."""

from __future__ import annotations

import sys
from importlib.metadata import version

import torch

__all__ = ["SPEED_MODELS", "make_model"]

SPEED_MODELS = ("resnet50", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "vit_b_16", "densenet121")


def define_missing_operators() -> None:
    """Let ``import torchvision`` work beside a CPU-only torch, whose operators PyPI's wheels for CUDA do not match.

    Call it before the first import. torchvision then needs only the schemas of two operators; no classifier uses them.
    """
    unmatched = sys.platform == "linux" and torch.version.cuda is None and "+" not in version("torchvision")
    if not unmatched or _libraries or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)


_libraries: list[torch.library.Library] = []  # a schema lives as long as its library object


def make_model(name: str, seed: int = 0) -> torch.nn.Module:
    """The torchvision classifier ``name``, in eval mode. Weights depend on ``seed`` only."""
    define_missing_operators()
    import torchvision

    torch.manual_seed(seed)
    model = torchvision.models.get_model(name, weights=None).eval()
    fit_batch_norm(model)
    return model


def fit_batch_norm(model: torch.nn.Module, passes: int = 2, batch: int = 8) -> None:
    """Set BatchNorm's running statistics from random pictures; with the initial ones (0 and 1), deep
    networks' outputs blow up or die out, and an error in them shows nothing."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the passes
        norm.train()
    with torch.no_grad():
        for _ in range(passes):
            model(torch.randn(batch, 3, 224, 224))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
