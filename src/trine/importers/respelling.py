"""Calls that PyTorch's exporter translates in one spelling only are traced in that spelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Respelled"]


_attend = functional.scaled_dot_product_attention


class Respelled(TorchFunctionMode):
    """While open, the calls in ``_SPELLINGS`` are made another way that means the same.

    PyTorch's functions written in Python (``multi_head_attention_forward``) are one call to this mode, which does
    not see what they call. The attention inside that one is found by its name in ``torch.nn.functional`` instead.
    """

    def __enter__(self) -> Self:
        """Opens the mode."""
        functional.scaled_dot_product_attention = _attention
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: object) -> None:
        """Closes the mode."""
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        functional.scaled_dot_product_attention = _attend

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
    """``scaled_dot_product_attention`` of any rank, as one of 4-D tensors (batch, heads, length, width).

    Where keys are broadcast, as in attention with many queries' heads over one head of keys, they are so beforehand.
    """
    if attn_mask is not None:
        if attn_mask.is_floating_point():
            attn_mask = _above_lowest(attn_mask)
        if attn_mask.dim() > 1:  # ONNX Runtime broadcasts a mask over batch and heads alone
            attn_mask = attn_mask.expand(*attn_mask.shape[:-2], query.shape[-2], key.shape[-2])
    if options.get("enable_gqa"):
        return _attend(query, key, value, attn_mask, *rest, **options)
    leading = torch.broadcast_shapes(  # type: ignore[no-untyped-call]
        query.shape[:-2], key.shape[:-2], value.shape[:-2]
    )
    query, key, value = (
        tensor if tensor.shape[:-2] == leading else tensor.expand(*leading, *tensor.shape[-2:])
        for tensor in (query, key, value)
    )
    if query.dim() == 4:
        return _attend(query, key, value, attn_mask, *rest, **options)
    if attn_mask is not None and attn_mask.dim() > 2:
        attn_mask = _four_dims(attn_mask.expand(*leading, *attn_mask.shape[-2:]))
    answer = _attend(_four_dims(query), _four_dims(key), _four_dims(value), attn_mask, *rest, **options)
    return answer.reshape(*leading, *answer.shape[-2:])


def _distances(a: torch.Tensor, b: torch.Tensor, p: float = 2.0, *_: Any, **__: Any) -> torch.Tensor:
    """``torch.cdist``: rows of ``a`` (..., n, width) to rows of ``b`` (..., m, width); gives (..., n, m)."""
    distances: torch.Tensor = torch.linalg.vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), p, -1)
    return distances


def _hypotenuse(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``torch.hypot``. Scaled, as squares of large numbers would be infinite."""
    longest = torch.maximum(a.abs(), b.abs())
    scale = torch.where((longest == 0) | longest.isinf(), torch.ones_like(longest), longest)
    return ((a / scale) ** 2 + (b / scale) ** 2).sqrt() * scale


def _take_along(x: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    """``torch.take_along_dim`` as a gather of equal shapes; PyTorch's own looks at the sizes and so fixes them."""
    if dim is None:
        return x.reshape(-1).gather(0, indices.reshape(-1))
    along = dim % x.dim()
    sizes = [j if isinstance(i, int) and i == 1 else i for i, j in zip(x.shape, indices.shape, strict=True)]
    x = x.expand(*sizes[:along], x.shape[along], *sizes[along + 1 :])
    return x.gather(along, indices.expand(*sizes[:along], indices.shape[along], *sizes[along + 1 :]))


def _mean(x: torch.Tensor, *args: Any, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:
    """``torch.mean`` of what is converted first: the exporter averages integers as integers."""
    return (x if dtype is None else x.to(dtype)).mean(*args, **options)


def _embedding_bag(indices: torch.Tensor, weight: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    """``embedding_bag`` with int64 indices: the exporter mixes them with others of its own."""
    return functional.embedding_bag(indices.long(), weight, *args, **options)


def _fake_quantize(x: torch.Tensor, scale: Any, zero: Any, low: int, high: int) -> torch.Tensor:
    """``torch.fake_quantize_per_tensor_affine``, which cannot be traced with an open batch: rounded to its steps."""
    steps = ((x * (1.0 / scale)).round() + zero).clamp(low, high)
    rounded: torch.Tensor = (steps - zero) * scale
    return rounded


def _fake_quantize_channels(
    x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, axis: int, low: int, high: int
) -> torch.Tensor:
    """``torch.fake_quantize_per_channel_affine``: each channel with steps of its own."""
    shape = [-1 if dim == axis else 1 for dim in range(x.dim())]
    return _fake_quantize(x, scale.reshape(shape), zero.reshape(shape), low, high)


def _above_lowest(mask: torch.Tensor) -> torch.Tensor:
    """The mask with half the lowest number in place of the lowest: both leave nothing of a score they are added to.

    ONNX Runtime's Attention takes the lowest for "never", as if it were -inf, and answers zeros for a query all of
    whose keys have it; PyTorch answers the values' mean. Masks of Hugging Face's models are made with it.
    """
    lowest = torch.finfo(mask.dtype).min
    return torch.where(mask == lowest, lowest / 2, mask)


def _four_dims(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dim() > 4:
        return tensor.flatten(0, -4)
    return tensor.reshape(*[1] * (4 - tensor.dim()), *tensor.shape)


_SPELLINGS: dict[Any, Callable[..., Any]] = {
    _attend: _attention,
    torch.cdist: _distances,
    torch.hypot: _hypotenuse,
    functional.embedding_bag: _embedding_bag,
    torch.fake_quantize_per_tensor_affine: _fake_quantize,
    torch.fake_quantize_per_channel_affine: _fake_quantize_channels,
    torch.mean: _mean,
    torch.Tensor.mean: _mean,
    torch.take_along_dim: _take_along,
    torch.Tensor.take_along_dim: _take_along,
    torch.Tensor.hypot: _hypotenuse,
    torch.Tensor.data.__get__: torch.Tensor.detach,  # type: ignore[attr-defined]  # a getter, for the tracer too
}
