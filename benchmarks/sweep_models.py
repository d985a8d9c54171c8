"""The models of the import sweep: 80 torchvision classifiers, and the smallest model of every timm module.

Weights are random. Left as constructors leave them, many networks answer the same whatever they are given (heads,
last BatchNorm scales and layer scales start at or near zero), so those are drawn at random too, and BatchNorm's
statistics are set by a forward pass.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from models import define_missing_operators

__all__ = ["make_network", "network_names", "pictures"]

SMALLEST = Path(__file__).resolve().parent / "results" / "timm_smallest.json"
SEEDS = 6
ATTENTION = re.compile(r"qkv|\bq\b|\bk\b|to_q|to_k|q_proj|k_proj|kv|query|key|in_proj|rel_pos|relative_pos|pos_emb")
INPUT_SIDES = {"inception_v3": 299}


def network_names() -> list[str]:
    """Every model of the sweep, as "torchvision/name" or "timm/module/name"."""
    define_missing_operators()
    import torchvision

    names = [f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    smallest = json.loads(SMALLEST.read_text(encoding="utf-8"))["models"]
    return [f"timm/{module}/{entry['model']}" for module, entry in sorted(smallest.items())] + names


def make_network(name: str, steady: bool = True) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """The network in eval mode, and the shape of one input row (channels, height, width).

    Of the seeds 0, 1, … the first whose network is steady; the last one tried if none is. From one to the next, what
    makes attention's logits is halved; from the second on, BatchNorm blows no channel up. Not ``steady``: of seed 0,
    whatever becomes of it.
    """
    for seed in range(SEEDS):
        network, shape = _construct(name, seed)
        if not steady or _is_steady(network, shape):
            break
    return network, shape


def _construct(name: str, seed: int) -> tuple[torch.nn.Module, tuple[int, ...]]:
    torch.manual_seed(seed)
    library, _, short = name.partition("/")
    define_missing_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "torchvision":
            import torchvision

            side = INPUT_SIDES.get(short, 224)
            network, shape = torchvision.models.get_model(short, weights=None), (3, side, side)
        else:
            import timm

            network = timm.create_model(short.partition("/")[2], pretrained=False)
            shape = tuple(network.default_cfg.get("input_size", (3, 224, 224)))
    _draw_constants(network)
    _calm_attention(network, 0.5**seed)
    _fit_batch_norm(network, shape, amplify=seed == 0)
    return network.eval(), shape


def _is_steady(network: torch.nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether PyTorch's own answers stay within 1e-5 when inputs change in their last bit.

    With random weights, some attention picks one key in place of averaging and jumps between keys. Nobody else's fp32
    can then agree with PyTorch's, and a comparison says nothing.
    """
    for inputs in (pictures(6, shape), torch.randn(6, *shape)):
        with torch.no_grad():
            plain, moved = (_first(network(x)) for x in (inputs, inputs * (1 + 2**-23 * torch.randn(inputs.shape))))
        if float((plain - moved).abs().max()) > 1e-5 * float(plain.abs().max()):
            return False
    return True


def _first(output: Any) -> torch.Tensor:
    """The first tensor of a nested output."""
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output


def _draw_constants(network: torch.nn.Module) -> None:
    """Draw at random what was initialised to one constant: zeros, layer scales, and the scales of normalisations.

    Normalisations' scales below 1 also keep attention's random logits small. Left at 1, a few of these networks pick
    one key in place of averaging, and jump from one to another at the least change of their input.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not parameter.is_floating_point() or parameter.numel() < 2 or name.endswith("bias"):
                continue
            if parameter.min() != parameter.max():
                continue
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.02)
            else:
                parameter.uniform_(0.2, 0.8)


def _calm_attention(network: torch.nn.Module, factor: float) -> None:
    """Scale queries, keys and positions: the smaller attention's logits, the more evenly it averages."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ATTENTION.search(name) and parameter.is_floating_point():
                parameter *= factor


def _fit_batch_norm(network: torch.nn.Module, shape: tuple[int, ...], *, amplify: bool) -> None:
    """Set BatchNorm's statistics by one pass. Unless ``amplify``, no channel's variance is below the layer's mean.

    In a random network some channels hardly vary; divided by so little, a picture unlike those of the pass comes out
    thousands of times larger, and rounding errors with it.
    """
    norms: list[Any] = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    network.eval()
    for norm in norms:
        if norm.track_running_stats:
            norm.reset_running_stats()
            norm.momentum = None  # what the pass sees, not a share of it
            norm.train()
    with torch.no_grad():  # noise too, as that is what verification sends: statistics that fit both keep it steady
        network(torch.cat([pictures(8, shape), torch.randn(8, *shape)]))
    for norm in norms:
        if norm.track_running_stats and not amplify:
            norm.running_var.clamp_(min=float(norm.running_var.mean()))
    network.eval()


def pictures(count: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Random pictures, (count, channels, height, width): large and small patches of colour, and a little noise.

    Noise alone would not do: it looks the same everywhere, so that deep features hardly vary, and BatchNorm, fitted to
    that, blows rounding errors up until PyTorch's own fp32 and fp64 answers have nothing in common.
    """
    channels, *size = shape
    layers = [(3, 1.0), (12, 0.5), (48, 0.25)]
    picture = 0.1 * torch.randn(count, channels, *size)
    for side, weight in layers:
        patches = torch.randn(count, channels, side, side)
        picture += weight * torch.nn.functional.interpolate(patches, size=size, mode="bilinear")
    return picture
