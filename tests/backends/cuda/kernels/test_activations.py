"""Activations in Triton's interpreter, through a generated function, against PyTorch in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backends.cuda.interpret import Memory, run_launches

from trine.backends.cuda.groups import Activation, Buffer, View
from trine.backends.cuda.kernels.activations import short_name
from trine.backends.cuda.kernels.generated import function_from_source
from trine.backends.cuda.tactic import KernelSource, Launch, Pointer

TEXT = """
@triton.jit
def apply(x, y, NAME: tl.constexpr, A: tl.constexpr, B: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(y + i, activate(tl.load(x + i), NAME, A, B))
"""
F = torch.nn.functional
MEANINGS = {
    Activation("none"): lambda x: x,
    Activation("relu"): F.relu,
    Activation("clip", -1.5, 6.0): lambda x: x.clamp(-1.5, 6.0),
    Activation("leaky_relu", 0.1): lambda x: F.leaky_relu(x, 0.1),
    Activation("elu", 1.3): lambda x: F.elu(x, 1.3),
    Activation("silu"): F.silu,
    Activation("hardswish"): F.hardswish,
    Activation("hardsigmoid", 0.2, 0.4): lambda x: (x * 0.2 + 0.4).clamp(0, 1),
    Activation("sigmoid"): torch.sigmoid,
    Activation("tanh"): torch.tanh,
    Activation("gelu"): F.gelu,
    Activation("gelu_tanh"): lambda x: F.gelu(x, approximate="tanh"),
    Activation("mish"): F.mish,
}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("activation", MEANINGS, ids=lambda a: a.name)
def test_activation(activation: Activation, dtype: str) -> None:
    """What is computed for 16 bits may be short, but not by as much as rounding."""
    name = short_name(activation.name, dtype)
    n = 256
    x = np.concatenate(
        [np.linspace(-12, 12, n - 11), [-1e4, -88.5, -1e-4, -1e-7, 0, 1e-7, 1e-4, 0.5, 88.5, 1e4, np.nan]]
    )
    x = x.astype(np.float32)
    source, result = Buffer("x", "arena", "fp32", n), Buffer("y", "arena", "fp32", n)
    signature = {"x": "*fp32", "y": "*fp32", "NAME": "constexpr", "A": "constexpr", "B": "constexpr", "N": "constexpr"}
    constants = {"NAME": name, "A": activation.a, "B": activation.b, "N": n}
    kernel = KernelSource(function_from_source(TEXT, "apply"), signature, constants)
    memory = Memory()
    memory.put(View(source, (n,), (1,)), x)
    view = View(result, (n,), (1,))
    run_launches([Launch(kernel, (1, 1, 1), (Pointer(View(source, (n,), (1,))), Pointer(view)))], memory)
    wanted = MEANINGS[activation](torch.from_numpy(x).double()).numpy()
    # Two or three roundings of numbers near 1; gelu's 1 + erf cancels for x < 0, hence the absolute part.
    short = name != activation.name
    np.testing.assert_allclose(memory.get(view), wanted, rtol=2e-6, atol=3e-5 if short else 3e-7)


def test_the_same_text_gives_the_same_function() -> None:
    assert function_from_source(TEXT, "apply") is function_from_source(TEXT, "apply")
    assert function_from_source(TEXT, "apply").generated_source == TEXT


def test_only_results_of_16_bits_are_short() -> None:
    assert short_name("gelu", "fp32") == "gelu"
    assert short_name("gelu", "fp16") != "gelu" != short_name("gelu", "bf16")
    assert short_name("relu", "fp16") == "relu"
