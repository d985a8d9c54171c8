"""torch2trt's helpers for converters: a call's arguments as tensors of the network, dims as axes, dtypes as TensorRT's.

Shapes include the batch, as in torch2trt since 0.4. A tensor whose ``_trt`` is set stays what it is; weights and
numbers become constants. Unlike torch2trt's, they leave no ``_trt`` on a weight, where the next conversion would find
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from trine.dtypes import DataType
from trine.errors import ConfigError

__all__ = [
    "add_missing_trt_tensors",
    "add_trt_constant",
    "broadcast_trt_tensors",
    "check_torch_dtype",
    "torch_dim_resolve_negative",
    "torch_dim_to_trt_axes",
    "torch_dtype_from_trt",
    "torch_dtype_to_trt",
    "trt_",
]


def add_trt_constant(network: Any, tensor: torch.Tensor) -> Any:
    """``tensor`` as a constant of the network, batch dimension and all."""
    return network.add_constant(tuple(tensor.shape), _values(tensor)).get_output(0)


def check_torch_dtype(*tensors: Any) -> torch.dtype:
    """The one dtype of the tensors among the arguments. Raises ConfigError when there are none, or several."""
    found = {tensor.dtype for tensor in tensors if isinstance(tensor, torch.Tensor)}
    if len(found) != 1:
        what = "no tensor" if not found else ", ".join(sorted(map(str, found)))
        raise ConfigError(f"expected tensors of one dtype, got {what}; cast them alike first")
    return found.pop()


def add_missing_trt_tensors(network: Any, tensors: Sequence[Any]) -> list[Any]:
    """The network's tensor for each argument: its ``_trt``, or a new constant.

    A number becomes a constant of shape (1,) in the other tensors' dtype; a weight loses its leading dimensions of
    size 1, which broadcasting puts back.
    """
    dtype = check_torch_dtype(*tensors)
    found = []
    for tensor in tensors:
        if hasattr(tensor, "_trt"):
            found.append(tensor._trt)
        elif isinstance(tensor, torch.Tensor):
            shape = tuple(tensor.shape)
            while shape and shape[0] == 1:
                shape = shape[1:]
            found.append(network.add_constant(shape, _values(tensor).reshape(shape)).get_output(0))
        else:
            found.append(_number(network, tensor, dtype, (1,)))
    return found


def broadcast_trt_tensors(network: Any, trt_tensors: Sequence[Any], broadcast_ndim: int) -> list[Any]:
    """Each tensor with dimensions of size 1 put in front, up to ``broadcast_ndim`` of them."""
    return [_padded(network, tensor, broadcast_ndim) for tensor in trt_tensors]


def trt_(network: Any, *tensors: Any) -> Any:
    """``add_missing_trt_tensors`` and ``broadcast_trt_tensors``: tensors of one rank; for one argument, the tensor."""
    dtype = check_torch_dtype(*tensors)
    ranks = [len((t._trt if hasattr(t, "_trt") else t).shape) for t in tensors if isinstance(t, torch.Tensor)]
    ndim = max(ranks)
    found = []
    for tensor in tensors:
        if hasattr(tensor, "_trt"):
            made = tensor._trt
        elif isinstance(tensor, torch.Tensor):
            made = add_trt_constant(network, tensor)
        else:
            made = _number(network, tensor, dtype, (1,) * ndim)
        found.append(_padded(network, made, ndim))
    return found[0] if len(found) == 1 else tuple(found)


def _padded(network: Any, tensor: Any, ndim: int) -> Any:
    """``tensor`` with ones in front of its shape. Raises ConfigError where several dimensions are dynamic."""
    missing = ndim - len(tensor.shape)
    if missing <= 0:
        return tensor
    dims = [dim if isinstance(dim, int) and dim >= 0 else -1 for dim in tensor.shape]
    if dims.count(-1) > 1:
        raise ConfigError(
            f"a tensor of shape {tuple(tensor.shape)} cannot get {missing} more dimension(s): a shuffle layer infers "
            "one dynamic dimension, not several. Broadcasting needs none; pass the tensor as it is"
        )
    layer = network.add_shuffle(tensor)
    layer.reshape_dims = (*[1] * missing, *dims)
    return layer.get_output(0)


def _number(network: Any, number: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> Any:
    if not isinstance(number, bool | int | float):
        raise ConfigError(f"expected a tensor or a number, got {type(number).__name__}")
    return network.add_constant(shape, _values(torch.full(shape, number, dtype=dtype))).get_output(0)


def _values(tensor: torch.Tensor) -> np.ndarray:
    if tensor.is_meta:
        raise ConfigError(
            "a tensor that flows through the network has no values to make a constant of, and no _trt: it is not an "
            "argument of this call. Use ctx.method_args"
        )
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(DataType.BFLOAT16.numpy)
    return np.asarray(tensor.numpy())


def torch_dim_resolve_negative(dim: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Dims counted from the front."""
    dims = dim if isinstance(dim, tuple) else (dim,)
    return tuple(each + ndim if each < 0 else each for each in dims)


def torch_dim_to_trt_axes(dim: int | tuple[int, ...]) -> int:
    """Dims, which must not be negative, as TensorRT's mask of axes."""
    axes = 0
    for each in dim if isinstance(dim, tuple) else (dim,):
        axes |= 1 << each
    return axes


def torch_dtype_to_trt(dtype: torch.dtype) -> Any:
    """TensorRT's element type. Raises TypeError for those that it has not."""
    from trine.compat.tensorrt.foundation import from_trine

    return from_trine(DataType.from_name(str(dtype)))


def torch_dtype_from_trt(dtype: Any) -> torch.dtype:
    """PyTorch's dtype for TensorRT's element type. Raises TypeError for those that it has not."""
    from trine.compat.tensorrt.foundation import to_trine

    found = getattr(torch, to_trine(dtype).value, None)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"PyTorch has no dtype for {dtype}")
    return found
