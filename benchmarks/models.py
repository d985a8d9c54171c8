"""The models that are timed: torchvision's, with random weights and BatchNorm statistics that fit them."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["SPEED_MODELS", "make_model"]

SPEED_MODELS = ("resnet50", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "vit_b_16", "densenet121")


def define_torchvision_schemas() -> None:
    """torchvision's wheels from PyPI, beside a CPU-only torch, miss their compiled operators, and will not
    import without at least the schemas of two. The classifiers use neither."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        try:
            library.define(schema)
        except RuntimeError:  # it is there already: a matching pair of wheels
            continue
    _LIBRARIES.append(library)


_LIBRARIES: list[Any] = []  # a schema lives as long as its library object


def make_model(name: str, seed: int = 0) -> torch.nn.Module:
    """The torchvision classifier ``name``, in eval mode. Weights depend on ``seed`` only."""
    if not _LIBRARIES:
        define_torchvision_schemas()
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
