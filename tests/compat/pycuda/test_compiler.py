"""pycuda.compiler and pycuda.elementwise can be imported, and say why they compile nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trine.compat.pycuda import compiler
from trine.compat.pycuda.elementwise import ElementwiseKernel
from trine.errors import UnsupportedError


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: compiler.SourceModule("__global__ void f() {}", options=["-O3"]), "compiler.SourceModule"),
        (lambda: compiler.compile("__global__ void f() {}"), "compiler.compile"),
        (lambda: ElementwiseKernel("float *x", "x[i] = 0", "zero"), "elementwise.ElementwiseKernel"),
    ],
)
def test_kernels_are_refused(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"pycuda\.{name}: .*do this step in NumPy"):
        make()
