"""Groups to try every tactic on: those that the tests of kernels make by hand, and those of the small networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from backends.cuda.kernels import (
    test_attention,
    test_conv,
    test_conv_gemm,
    test_depthwise,
    test_gather_rows,
    test_gemm,
    test_hopper,
    test_pointwise,
    test_recurrence,
    test_rows_and_pools,
    test_squeeze_excite_blocks,
)
from backends.cuda.test_networks import ROWS, SMALL, prepared

from trine.backends.cuda.groups import Group
from trine.backends.cuda.lowering import lower
from trine.backends.cuda.signature import group_signature

__all__ = ["distinct", "made_by_hand", "of_small_networks"]


def made_by_hand() -> list[Group]:
    """Of every kind, large ones among them."""
    paired = (*test_conv.GROUPS.values(), *test_gemm.GROUPS.values(), *test_hopper.GROUPS.values())
    found: list[Group] = [
        *(group for group, _ in paired),
        *test_conv.LARGE.values(),
        *test_gemm.FEW.values(),
        *test_gemm.FETCHED.values(),
        *test_gemm.LARGE.values(),
        test_gemm.TOO_SMALL,
        *test_hopper.LARGE.values(),
        *test_conv_gemm.GROUPS,
        *test_depthwise.GROUPS.values(),
        *test_depthwise.LARGE.values(),
        *test_attention.CASES.values(),
        *test_attention.FEW_KEYS.values(),
        *test_rows_and_pools.GROUPS.values(),
        *test_rows_and_pools.MORE.values(),
        *test_rows_and_pools.LONG.values(),
        *test_squeeze_excite_blocks.GROUPS.values(),
        *test_squeeze_excite_blocks.LARGE,
        *test_pointwise.REPRESENTATIVES.values(),
        *test_gather_rows.GROUPS,
        *test_recurrence.GROUPS.values(),
        *test_recurrence.MORE.values(),
    ]
    return distinct(found)


@cache
def of_small_networks() -> list[Group]:
    """In every precision; takes a minute or two."""
    return distinct(_lowered())


def _lowered() -> Iterator[Group]:
    for name in SMALL:
        graph, inputs, outputs, *_ = prepared(name)
        for precision in ("fp16", "bf16", "fp32"):
            yield from lower(graph, ROWS, inputs, outputs, precision).groups


def distinct(groups: Iterable[Group]) -> list[Group]:
    """Those that are the same work, once."""
    return list({group_signature(group): group for group in groups}.values())
