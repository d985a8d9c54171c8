"""``pycuda.elementwise``: programs may import it. Its kernels run on a GPU only, and are refused by that reason."""

from __future__ import annotations

from typing import Any

from trine.errors import UnsupportedError

__all__ = ["ElementwiseKernel"]


class ElementwiseKernel:
    """A kernel for each element, in CUDA C. Raises UnsupportedError."""

    def __init__(self, arguments: Any, operation: str, *args: Any, **options: Any) -> None:
        raise UnsupportedError(
            "pycuda.elementwise.ElementwiseKernel: no GPU runs kernels on this memory, the host's; do this step "
            "in NumPy, or run the program with pycuda itself on an NVIDIA GPU"
        )
