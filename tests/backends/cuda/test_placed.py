"""Small graphs whose buffers lie where they may not: what compares a plan's memory with separate buffers notices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.cuda import placed
from backends.cuda.placed import run_apart_and_placed

from trine.backends.cuda import reference
from trine.backends.cuda.groups import Buffer, Expr, Group, Pointwise, View
from trine.backends.cuda.lowering import Lowered
from trine.backends.cuda.memory_plan import Placement, plan_memory

X0, X1 = Expr("input"), Expr("input", index=1)
SIZE = 64


def view(name: str, kind: str = "arena") -> View:
    return View(Buffer(name, kind, "fp32", SIZE), (SIZE,), (1,))


def chain() -> tuple[Lowered, dict[str, Buffer]]:
    """a = -x; b = -a; c = a + b; y = -c: a, b and c live at the same time, and scratch beside b."""
    x, a, b, c, y = (view(name, kind) for name, kind in zip("xabcy", ("input", *("arena",) * 3, "output"), strict=True))
    groups: list[Group] = [
        Pointwise(name="a", y=a, inputs=(x,), expr=Expr("neg", (X0,))),
        Pointwise(name="b", y=b, inputs=(a,), expr=Expr("neg", (X0,))),
        Pointwise(name="c", y=c, inputs=(a, b), expr=Expr("add", (X0, X1))),
        Pointwise(name="y", y=y, inputs=(c,), expr=Expr("neg", (X0,))),
    ]
    scratch = Buffer("scratch", "arena", "fp32", SIZE)
    return Lowered(groups, (x.buffer,), (y.buffer,)), {
        "a": a.buffer,
        "b": b.buffer,
        "c": c.buffer,
        "scratch": scratch,
    }


FEED = [np.arange(SIZE, dtype=np.float32)]


def test_a_plan_s_own_placement_is_right() -> None:
    low, buffers = chain()
    (y,) = run_apart_and_placed(low, FEED, [(buffers["scratch"], 1)])
    np.testing.assert_array_equal(y, np.zeros(SIZE, np.float32))


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("a", "c"), ("b", "c"), ("scratch", "a")])
def test_buffers_that_live_at_the_same_time(one: str, other: str) -> None:
    low, buffers = chain()
    scratch = [(buffers["scratch"], 1)]
    plan = plan_memory(low.groups, scratch)
    for apart in (0, 4 * SIZE - 4):  # all of it, and the last element only
        offsets = {**plan.offsets, buffers[one]: plan.offsets[buffers[other]] + apart}
        wrong = Placement(offsets, plan.arena_bytes + 4 * SIZE, plan.live_bytes)
        with pytest.raises(AssertionError, match=r"other bytes|not its own"):
            run_apart_and_placed(low, FEED, scratch, wrong)


def test_memory_that_is_read_after_its_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """b dies when c is made: y may not read it. Nor on the reference device, where only its answer shows."""
    low, buffers = chain()
    b = View(buffers["b"], (SIZE,), (1,))
    real = reference.run_group

    def stray(group: Group, memory: Any) -> None:
        real(replace(group, inputs=(b,)) if group.name == "y" else group, memory)

    monkeypatch.setattr(placed, "run_group", stray)
    with pytest.raises(AssertionError, match="y writes other bytes"):
        run_apart_and_placed(low, FEED)
    monkeypatch.setattr(reference, "run_group", stray)
    found = reference.run_groups(low.groups, plan_memory(low.groups), dict(zip(low.inputs, FEED, strict=True)))
    assert np.isnan(found[low.outputs[0]]).all()


@pytest.mark.parametrize("name", ["a", "y"])
def test_an_element_that_is_not_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is poison, in the arena and in outputs: never what happens to be right."""
    low, _ = chain()
    real = reference.run_group

    def short(group: Group, memory: Any) -> None:
        if group.name == name:
            assert isinstance(group, Pointwise)
            cut = {view: replace(view, shape=(SIZE - 1,)) for view in (group.y, *group.inputs)}
            group = replace(group, y=cut[group.y], inputs=tuple(cut[each] for each in group.inputs))
        real(group, memory)

    monkeypatch.setattr(placed, "run_group", short)
    (y,) = run_apart_and_placed(low, FEED)
    assert np.isnan(y[-1])
    monkeypatch.setattr(reference, "run_group", short)
    found = reference.run_groups(low.groups, plan_memory(low.groups), dict(zip(low.inputs, FEED, strict=True)))
    assert np.isnan(found[low.outputs[0]][-1])
