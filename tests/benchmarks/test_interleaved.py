from __future__ import annotations

import interleaved
import pytest

from trine.builder import timing


def test_everyone_gets_as_many_turns_and_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    contenders = {name: (lambda x, name=name: calls.append((name, x))) for name in ("a", "b", "c")}
    monkeypatch.setattr(interleaved, "SETTLE_S", 0.0)
    monkeypatch.setattr(timing, "TURN_S", 0.0)  # one counted call a turn
    found = interleaved.interleave(contenders, [0, 1, 2], seconds=0.0, min_rounds=6)
    assert {name: time.calls for name, time in found.items()} == {"a": 6, "b": 6, "c": 6}
    by_name = {name: [x for who, x in calls if who == name] for name in contenders}
    assert by_name["a"] == by_name["b"] == by_name["c"]
    firsts = [who for who, _ in calls[9::6]]
    assert set(firsts) == {"a", "b", "c"}  # the order rotates


def test_spread() -> None:
    found = interleaved.spread([float(n) for n in range(11)])
    assert (found.median_ms, found.p10_ms, found.p90_ms, found.min_ms, found.calls) == (5.0, 1.0, 9.0, 0.0, 11)
    assert interleaved.spread([2.0]).median_ms == 2.0
