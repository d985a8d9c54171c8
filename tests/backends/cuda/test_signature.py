"""Signatures: what is the same work, and that timings that ship with trine are still found."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from trine.backends.cuda.groups import Activation, Buffer, Epilogue, Gemm, Normal, View, contiguous_strides
from trine.backends.cuda.signature import group_signature
from trine.backends.cuda.tuning_cache import SHIPPED, TuningCache


def dense(name: str, dtype: str, shape: tuple[int, ...], kind: str = "arena") -> View:
    return View(Buffer(name, kind, dtype, math.prod(shape)), shape, contiguous_strides(shape))


def product(rows: int, columns: int, products: int, act: str = "none", residual: bool = False) -> Gemm:
    return Gemm(
        name="g",
        a=dense("a", "fp16", (rows, products)),
        b=dense("b", "fp16", (columns, products), "weight"),
        y=dense("y", "fp16", (rows, columns)),
        epilogue=Epilogue(
            dense("bias", "fp32", (columns,), "weight"),
            Activation(act),
            dense("r", "fp16", (rows, columns)) if residual else None,
        ),
    )


VIT = {
    "queries, keys and values": product(197, 2304, 768),
    "first of two layers": product(197, 3072, 768, "gelu"),
    "second of two layers": product(197, 768, 3072, residual=True),
}


@pytest.mark.parametrize("name", VIT)
def test_timings_of_vit_that_ship_are_found(name: str) -> None:
    assert TuningCache(None, "", "sm_90", SHIPPED).timings(group_signature(VIT[name]))


def test_names_do_not_count_and_normalisation_does() -> None:
    group = product(16, 8, 8)
    assert group_signature(replace(group, name="another")) == group_signature(group)
    normal = Normal(dense("s", "fp32", (16, 2)), dense("sums", "fp32", (8,), "weight"))
    normalised = replace(group, normal=normal)
    assert group_signature(normalised) != group_signature(group)
    shifted = replace(normal, statistics=replace(normal.statistics, buffer=Buffer("t", "arena", "fp32", 40), offset=4))
    assert group_signature(replace(group, normal=shifted)) != group_signature(normalised)
