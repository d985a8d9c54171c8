"""The memory plan: nothing that is alive shares memory, and little is wasted."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from trine.backends.cuda.groups import Buffer, Expr, Pointwise, View
from trine.backends.cuda.memory_plan import ALIGNMENT, Lifetime, lifetimes, place, plan_memory

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(1, 5000)), max_size=60)


def living(spans: list[tuple[int, int, int]]) -> list[Lifetime]:
    return [
        Lifetime(Buffer(f"b{index}", "arena", "fp32", elements), first, first + length)
        for index, (first, length, elements) in enumerate(spans)
    ]


@given(SPANS)
def test_no_two_live_buffers_overlap(spans: list[tuple[int, int, int]]) -> None:
    alive = living(spans)
    plan = place(alive)
    for one, other in itertools.combinations(alive, 2):
        if one.last < other.first or other.last < one.first:
            continue
        a, b = plan.offsets[one.buffer], plan.offsets[other.buffer]
        assert a + one.buffer.nbytes <= b or b + other.buffer.nbytes <= a
    for each in alive:
        assert plan.offsets[each.buffer] % ALIGNMENT == 0
        assert plan.offsets[each.buffer] + each.buffer.nbytes <= plan.arena_bytes
    assert plan.live_bytes <= plan.arena_bytes


@given(SPANS)
def test_the_arena_is_close_to_what_is_alive(spans: list[tuple[int, int, int]]) -> None:
    """Placing intervals is NP-hard; what is promised, 1.3, is for networks, and random spans may need a little more."""
    plan = place(living(spans))
    assert plan.arena_bytes <= 1.5 * plan.live_bytes


def copy(source: View, target: View) -> Pointwise:
    return Pointwise(name="copy", y=target, inputs=(source,), expr=Expr("input"))


def test_lifetimes_and_scratch() -> None:
    x, w, a, b = (
        View(Buffer(name, kind, "fp16", 64), (64,), (1,))
        for name, kind in (("x", "input"), ("w", "weight"), ("a", "arena"), ("b", "arena"))
    )
    scratch = Buffer("scratch", "arena", "fp32", 10)
    groups = [copy(x, a), copy(a, b), copy(w, b)]
    found = {each.buffer.name: (each.first, each.last) for each in lifetimes(groups, [(scratch, 1)])}
    assert found == {"a": (0, 1), "b": (1, 2), "scratch": (1, 1)}
    plan = plan_memory(groups, [(scratch, 1)])
    assert set(plan.offsets) == {a.buffer, b.buffer, scratch}
    assert plan.arena_bytes == 3 * ALIGNMENT


def test_a_buffer_in_parts_lives_from_its_first_part_on() -> None:
    whole = Buffer("whole", "arena", "fp32", 128)
    parts = [View(whole, (64,), (1,), offset) for offset in (0, 64)]
    x, between, y = (View(Buffer(name, "arena", "fp32", 64), (64,), (1,)) for name in ("x", "between", "y"))
    groups = [copy(x, parts[0]), copy(x, between), copy(between, parts[1]), copy(parts[0], y)]
    spans = {each.buffer.name: (each.first, each.last) for each in lifetimes(groups)}
    assert spans["whole"] == (0, 3)


def test_nothing_to_place() -> None:
    assert plan_memory([]).arena_bytes == 0
