"""Nodes of a traced program that PyTorch's exporter gets wrong in one spelling are spelled another way, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["respell_nodes"]

aten = torch.ops.aten


def respell_nodes(program: torch.export.ExportedProgram) -> None:
    """Changes the nodes of ``program`` that ``_SPELLINGS`` names; what they compute stays the same."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                if respell := _SPELLINGS.get(node.target):
                    respell(node)


def _floating_bounds(node: torch.fx.Node) -> None:
    """``x.clamp(-0.5, 3)`` becomes ``x.clamp(-0.5, 3.0)``.

    The exporter's promotion of types makes a tensor of the int, and then finds no such clamp.
    """
    bounds = [*node.args[1:], *node.kwargs.values()]
    if any(isinstance(bound, float) for bound in bounds):
        node.args = (node.args[0], *(float(bound) if type(bound) is int else bound for bound in node.args[1:]))
        node.kwargs = {name: float(bound) if type(bound) is int else bound for name, bound in node.kwargs.items()}


def _boolean_sum(node: torch.fx.Node) -> None:
    """``a + b`` of booleans becomes ``a | b``: ONNX adds numbers only."""
    value = node.meta.get("val")
    tensors = all(isinstance(each, torch.fx.Node) for each in node.args)
    if isinstance(value, torch.Tensor) and value.dtype == torch.bool and tensors and not node.kwargs:
        node.target = aten.logical_or.default if node.target is aten.add.Tensor else aten.logical_or_.default


def _mean_slope(node: torch.fx.Node) -> None:
    """``rrelu`` in eval mode becomes the leaky ReLU whose slope is the mean of its two; it draws one in training."""
    given = dict(zip(("input", "lower", "upper", "training"), node.args, strict=False)) | node.kwargs
    lower, upper = given.get("lower", 1 / 8), given.get("upper", 1 / 3)
    if given.get("training") or not isinstance(lower, int | float) or not isinstance(upper, int | float):
        return
    node.target = aten.leaky_relu.default if node.target is aten.rrelu.default else aten.leaky_relu_.default
    node.args, node.kwargs = (given["input"], (lower + upper) / 2), {}


def _volume_without_bias(node: torch.fx.Node) -> None:
    """``conv3d`` without a bias becomes the convolution of any rank.

    The exporter's conv3d makes up a bias of zeros for it, of two dims (onnxscript 0.7), which no backend takes.
    """
    given = dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), node.args, strict=False))
    given |= node.kwargs
    if given.get("bias") is not None:
        return
    stride, padding, dilation = (
        [each] * 3 if isinstance(each := given.get(name, default), int) else list(each) * (3 // len(each))  # type: ignore[arg-type]
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    node.target = aten.convolution.default
    node.args = (
        *(given["input"], given["weight"], None),
        *(stride, padding, dilation, False, [0, 0, 0], given.get("groups", 1)),
    )
    node.kwargs = {}


_SPELLINGS: dict[Any, Callable[[torch.fx.Node], None]] = {
    **dict.fromkeys((aten.clamp.default, aten.clamp_.default, aten.clip.default, aten.clip_.default), _floating_bounds),
    **dict.fromkeys((aten.add.Tensor, aten.add_.Tensor), _boolean_sum),
    **dict.fromkeys((aten.rrelu.default, aten.rrelu_.default), _mean_slope),
    aten.conv3d.default: _volume_without_bias,
}
