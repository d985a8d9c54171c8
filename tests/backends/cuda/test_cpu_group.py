"""Parts for the CPU on the reference device."""

import numpy as np
import pytest
from runtime.cuda.sample_plans import cpu_part

from trine.backends.cuda import cpu_group
from trine.backends.cuda.cpu_group import run_part

X = np.ones((2, 3), np.float32)


def test_a_part_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(cpu_group, "_sessions", type(cpu_group._sessions)())
    opened = cpu_group.open_part
    monkeypatch.setattr(cpu_group, "open_part", lambda part, threads: compiled.append(part) or opened(part, threads))
    for _ in range(3):
        np.testing.assert_array_equal(run_part(cpu_part(), [X])[0], -X)
    assert len(compiled) == 1
    np.testing.assert_array_equal(run_part(cpu_part("y = Abs(x)"), [-X])[0], X)
    assert len(compiled) == 2


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_group, "_sessions", type(cpu_group._sessions)())
    monkeypatch.setattr(cpu_group, "_KEPT", 2)
    for body in ("y = Neg(x)", "y = Exp(x)", "y = Abs(x)"):
        run_part(cpu_part(body), [X])
        assert len(cpu_group._sessions) <= 2
