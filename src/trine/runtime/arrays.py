"""Arrays at the border: NumPy, PyTorch and anything with DLPack in; the caller's own kind out; no copies."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.errors import InputError

__all__ = ["as_numpy", "as_torch", "check_plain_tensor", "is_torch"]


def is_torch(value: object) -> bool:
    """Whether ``value`` is a PyTorch tensor. Never imports torch: who holds a tensor has it loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_numpy(name: str, value: Any, role: str = "input") -> np.ndarray:
    """``value`` as a NumPy array over the same memory; ``role`` and ``name`` are what errors call it.

    NumPy has no bfloat16 in DLPack, so such tensors travel as int16 and are viewed as ml_dtypes' bfloat16.
    Raises InputError for what is no array, or lives on another device.
    """
    if isinstance(value, np.ndarray):
        if hasattr(value, "mask") and np.any(value.mask):
            raise InputError(
                f"{role} {name!r}: is a masked array, and an engine knows no missing values; put numbers in their "
                "place: x.filled(0)"
            )
        return value
    if is_torch(value):
        return _torch_as_numpy(name, value, role)
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as err:
            raise InputError(
                f"{role} {name!r}: a {type(value).__name__} on this device cannot be read without a copy ({err}); "
                "pass an array in host memory"
            ) from err
    if isinstance(value, np.generic):
        return np.asarray(value)
    raise InputError(
        f"{role} {name!r}: expected an array (NumPy, PyTorch or DLPack), got {type(value).__name__}; "
        "wrap it in np.asarray(…, dtype=…)"
    )


def _torch_as_numpy(name: str, tensor: Any, role: str) -> np.ndarray:
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        raise InputError(
            f"{role} {name!r}: expected a tensor in host memory, got one on {tensor.device}; pass {name}.cpu()"
        )
    tensor = tensor.detach()
    check_plain_tensor(name, tensor, role)
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return np.from_dlpack(tensor.view(torch.int16)).view(DataType.BFLOAT16.numpy)
    try:
        array: np.ndarray = np.from_dlpack(tensor)
    except (BufferError, RuntimeError) as err:
        raise InputError(f"{role} {name!r}: a tensor of {tensor.dtype} cannot be read as an array: {err}") from err
    return array


def check_plain_tensor(name: str, tensor: Any, role: str) -> None:
    """Raises InputError for a tensor that does not hold one number for each element, on whichever device."""
    torch = sys.modules["torch"]
    if tensor.is_nested or _is_traced(torch, tensor):
        raise InputError(
            f"{role} {name!r}: expected a plain tensor, got {_kind_of(tensor)}; an engine computes on numbers, and "
            "cannot be traced, transformed or batched by PyTorch"
        )
    if tensor.layout != torch.strided:
        raise InputError(
            f"{role} {name!r}: expected a dense tensor, got layout {tensor.layout}; pass {name}.to_dense()"
        )


def _is_traced(torch: Any, tensor: Any) -> bool:
    """Whether ``tensor`` stands for numbers instead of holding them: fake tensors of torch.export and torch.compile,
    which even give an address, and those of torch.func's transforms."""
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    return bool(
        (fake is not None and isinstance(tensor, fake.FakeTensor))
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _kind_of(tensor: Any) -> str:
    kind = type(tensor).__name__
    if tensor.is_nested:
        return "a nested tensor"
    return "one under torch.func (vmap, grad)" if kind in ("Tensor", "Parameter") else f"a {kind}"


def as_torch(array: np.ndarray) -> Any:
    """``array`` as a PyTorch tensor over the same memory."""
    torch = sys.modules["torch"]
    if array.dtype.name == "bfloat16":
        return torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_dlpack(array)
