"""Engines of small networks, built on the GPU that is here, and what PyTorch answers in fp32."""

from __future__ import annotations

import os
from functools import cache

import numpy as np
import torch
from backends.cuda.test_networks import SMALL, calibrated, with_cut_operands
from torch import nn

import trine

__all__ = [
    "ANY", "BUCKETS", "NETWORKS", "allowed_error", "answer_of", "built", "module_of", "pictures", "relative_error",
]  # fmt: skip

BUCKETS = (1, 4, 8)
ANY = "efficientnet"  # of the tests that any network would do for: one that was built and right on a GPU before
NETWORKS = ("resnet", "densenet", "efficientnet", "mobilenet", "convnext", "swin", "vit")
_KERNELS = os.environ.get("TRINE_TEST_KERNELS")  # a folder of machine code that was compiled before


@cache
def module_of(name: str) -> nn.Module:
    """With the statistics of a trained network."""
    make, size, _ = SMALL[name]
    torch.manual_seed(0)
    return calibrated(make().eval(), torch.randn(16, 3, size, size))


@cache
def built(name: str, precision: str = "fp16") -> trine.Engine:
    """Verified on the GPU as every build is; kernels are timed as far as they are compiled or guessed first."""
    return trine.build(
        module_of(name),
        (torch.from_numpy(pictures(name, 2)),),
        device="cuda",
        precision=precision,
        batch=(BUCKETS[0], BUCKETS[1], BUCKETS[-1]),
        buckets=BUCKETS,
        quick_tuning=True,
        kernel_cache=_KERNELS,
        accuracy_budget=allowed_error(name, precision),
    )


def pictures(name: str, rows: int, seed: int = 0) -> np.ndarray:
    """(rows, 3, size, size) fp32."""
    size = SMALL[name][1]
    return np.random.default_rng(seed).standard_normal((rows, 3, size, size)).astype(np.float32)


def answer_of(name: str, x: np.ndarray) -> np.ndarray:
    """PyTorch's, in fp32 on the CPU."""
    with torch.no_grad():
        return module_of(name)(torch.from_numpy(x)).numpy()


@cache
def allowed_error(name: str, precision: str) -> float:
    """The budget; for networks that were never trained, half as much again as PyTorch's own error, if that is more."""
    from trine.verify.tolerances import budget_for

    if precision == "tf32":
        return max(budget_for(precision), 1.5 * _error_of_cut_operands(name))
    if precision not in ("fp16", "bf16"):
        return budget_for(precision)
    import copy

    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    x = pictures(name, 4, seed=9)
    with torch.no_grad():
        narrow = copy.deepcopy(module_of(name)).to(dtype)(torch.from_numpy(x).to(dtype)).float().numpy()
    return max(budget_for(precision), 1.5 * relative_error(narrow, answer_of(name, x)))


def _error_of_cut_operands(name: str) -> float:
    """PyTorch's error with the operands of every product cut to tf32's ten bits, as Hopper's tensor cores do."""
    x = pictures(name, 4, seed=9)
    with torch.no_grad():
        return relative_error(with_cut_operands(module_of(name))(torch.from_numpy(x)).numpy(), answer_of(name, x))


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """max|got - want| / max|want|; infinite where there is a NaN."""
    error = float(np.abs(got.astype(np.float64) - want).max() / np.abs(want).max())
    return float("inf") if np.isnan(error) else error
