"""Calls that PyTorch's exporter translates in one spelling only are traced in that spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Respelled"]


class Respelled(TorchFunctionMode):
    """While open, the calls in ``_SPELLINGS`` are made another way that means the same."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        return _SPELLINGS.get(func, func)(*args, **(kwargs or {}))


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *rest: Any,
    **options: Any,
) -> torch.Tensor:
    """``scaled_dot_product_attention`` of (batch, length, width) or (length, width), as one of 4-D tensors."""
    attend = functional.scaled_dot_product_attention
    if not query.dim() == key.dim() == value.dim() or query.dim() not in (2, 3):
        return attend(query, key, value, attn_mask, *rest, **options)
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.unsqueeze(1)
    wide = [tensor.unsqueeze(0) if query.dim() == 2 else tensor for tensor in (query, key, value)]
    wide = [tensor.unsqueeze(1) for tensor in wide]
    answer = attend(wide[0], wide[1], wide[2], attn_mask, *rest, **options).squeeze(1)
    return answer.squeeze(0) if query.dim() == 2 else answer


_SPELLINGS: dict[Any, Callable[..., Any]] = {functional.scaled_dot_product_attention: _attention}
