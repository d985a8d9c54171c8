"""Means, norms and what is worked out from them stay in fp32: they are few, and small numbers matter in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trine.backends.cuda.groups import Buffer, Group, Pointwise, Reduce, View, with_views

__all__ = ["keep_statistics_exact"]

_NARROW = frozenset({"fp16", "bf16"})


def keep_statistics_exact(groups: Sequence[Group]) -> list[Group]:
    """Before: Reduce(l2) -> n (fp16); Pointwise(max(n, 1e-12)) -> m (fp16), which is 0. After: n and m in fp32.

    Stays: what anything else than pointwise groups reads, as products want operands of one type.
    """
    readers: dict[Buffer, list[Group]] = {}
    writers: dict[Buffer, int] = {}
    for group in groups:
        for view in group.views():
            readers.setdefault(view.buffer, []).append(group)
        for view in group.written():
            writers[view.buffer] = writers.get(view.buffer, 0) + 1
    exact: dict[Buffer, Buffer] = {}
    for group in groups:
        buffer = group.y.buffer
        if buffer.kind != "arena" or buffer.dtype not in _NARROW or writers[buffer] != 1:
            continue
        if not all(isinstance(reader, Pointwise) for reader in readers.get(buffer, [])):
            continue
        given = [view.buffer for view in group.views() if view.buffer.kind != "weight"]
        from_statistics = isinstance(group, Pointwise) and bool(given) and all(each in exact for each in given)
        if isinstance(group, Reduce) or from_statistics:
            exact[buffer] = replace(buffer, dtype="fp32")

    def change(view: View) -> View:
        return replace(view, buffer=exact[view.buffer]) if view.buffer in exact else view

    return [with_views(group, change) for group in groups] if exact else list(groups)
