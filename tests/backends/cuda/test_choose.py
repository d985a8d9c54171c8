"""Choosing with a timer that fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from backends.cuda.kernels.test_rows_and_pools import GROUPS

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from trine.backends.cuda.choose import Chooser
from trine.backends.cuda.groups import Group, Softmax
from trine.backends.cuda.kernel_cache import KernelCache
from trine.backends.cuda.signature import group_signature
from trine.backends.cuda.tactic import Launch
from trine.backends.cuda.target import TARGETS
from trine.backends.cuda.tuning_cache import TuningCache
from trine.errors import BuildError, DeviceError, DeviceMemoryError
from trine.runtime.cuda.plan import Kernel

GROUP = next(group for group in GROUPS.values() if isinstance(group, Softmax))


class Failing:
    """Fails, so many times; then each is faster than the one before."""

    device_name = "NVIDIA H200"

    def __init__(self, error: DeviceError, times: int) -> None:
        self.error, self.left, self.last = error, times, 100.0

    def time(self, group: Group, launches: Sequence[Launch], kernels: Sequence[Kernel]) -> float:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        self.last -= 1
        return self.last


def chosen(path: Path, error: DeviceError, times: int) -> str:
    cache = TuningCache(path, "NVIDIA H200", "sm_90")
    chooser = Chooser(TARGETS["sm_90"], cache, KernelCache(None), Failing(error, times), processes=1, most=2)
    (choice,) = chooser.choose({1: [GROUP]}, lambda text: None)[1]
    return choice.tactic


def remembered(path: Path) -> list[float | None]:
    return list(TuningCache(path, "NVIDIA H200", "sm_90").timings(group_signature(GROUP)).values())


def test_too_little_memory_is_said_and_not_remembered(tmp_path: Path) -> None:
    """Another build may have more: nothing is known of the kernels."""
    path = tmp_path / "timings.json"
    with pytest.raises(DeviceMemoryError, match="the tuner has 0"):
        chosen(path, DeviceMemoryError("g: 3 MiB of operands, the tuner has 0"), 2)
    assert remembered(path) == []
    assert chosen(path, DeviceMemoryError("g: 3 MiB of operands, the tuner has 0"), 1) == "triton softmax"
    assert remembered(path) == [99.0]


def test_kernels_that_do_not_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "timings.json"
    with pytest.raises(BuildError, match="nothing for it compiles and runs"):
        chosen(path, DeviceError("an invalid argument"), 2)
