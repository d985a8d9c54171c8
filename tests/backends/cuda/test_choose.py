"""Which kernel computes a group: by remembered timings, of this architecture or another, by a GPU, by guesses."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from backends.cuda.kernels.test_gemm import product
from backends.cuda.kernels.test_squeeze_excite_blocks import TACTIC as BLOCKS
from backends.cuda.kernels.test_squeeze_excite_blocks import squeeze

from trine.backends.cuda.choose import Choice, Chooser
from trine.backends.cuda.compiler import compile_all, compile_each, compile_kernel
from trine.backends.cuda.groups import Group
from trine.backends.cuda.kernel_cache import KernelCache, kernel_key
from trine.backends.cuda.kernels import conv_gluon, gemm_gluon
from trine.backends.cuda.kernels.gemm_launch import GemmTiles
from trine.backends.cuda.kernels.gemv import FewRows
from trine.backends.cuda.signature import group_signature
from trine.backends.cuda.tactic import CudaTactic, Launch
from trine.backends.cuda.target import TARGETS
from trine.backends.cuda.tuning_cache import TuningCache
from trine.errors import BuildError, DeviceError, DeviceLostError, DeviceMemoryError
from trine.runtime.cuda.plan import Kernel

ONE_ROW = product(1, 256, 512)


class Gpu:
    """``microseconds``: of a launch, or what is raised."""

    device_name = "a GPU"

    def __init__(self, microseconds: Callable[[Launch], float]) -> None:
        self._microseconds = microseconds

    def time(self, group: Group, launches: Sequence[Launch], kernels: Sequence[Kernel]) -> float:
        return self._microseconds(launches[0])


def chooser(path: Path | None = None, target: str = "sm_90", timer: Any = None) -> Chooser:
    cache = TuningCache(path, timer.device_name if timer else "", target)
    return Chooser(TARGETS[target], cache, KernelCache(None), timer, processes=1, most=1)


def chosen(asked: Chooser, group: Group = ONE_ROW) -> Choice:
    return asked.choose({1: [group]}, lambda text: None)[1][0]


def label(tactic: CudaTactic, group: Group, target: str, number: int = 0) -> str:
    configuration = tactic.configurations(group, TARGETS[target])[number]
    return f"{tactic.name}[{','.join(f'{key}={value}' for key, value in sorted(configuration.items()))}]"


def remember(path: Path, target: str, group: Group, **timings: float) -> None:
    cache = TuningCache(path, "another GPU", target)
    for name, latency in timings.items():
        cache.put(group_signature(group), name, latency)
    cache.save()


@pytest.mark.parametrize("target", ["sm_80", "sm_89", "sm_90", "sm_100"])
def test_few_rows_are_gemv_s_where_nothing_is_known(target: str) -> None:
    choice = chosen(chooser(target=target))
    assert (choice.tactic, choice.latency_us) == ("triton gemv", None)


def test_another_architecture_says_what_suits_the_work(tmp_path: Path) -> None:
    path = tmp_path / "timings.json"
    fast, slow = label(GemmTiles(), ONE_ROW, "sm_80"), label(FewRows(), ONE_ROW, "sm_80")
    remember(path, "sm_90", ONE_ROW, **{fast: 1.0, slow: 2.0, "a tactic of sm_90's alone[]": 0.5})
    choice = chosen(chooser(path, "sm_80"))
    assert (choice.tactic, choice.latency_us) == ("triton gemm", None), "its time is no measure of this GPU"
    remember(path, "sm_80", ONE_ROW, **{slow: 7.0})
    choice = chosen(chooser(path, "sm_80"))
    assert (choice.tactic, choice.latency_us) == ("triton gemv", 7.0), "the target's own timings come first"


def test_groups_are_timed_while_others_compile() -> None:
    said: list[str] = []
    groups = [ONE_ROW, squeeze(128, 4, 2304, 96)]
    asked = chooser(timer=Gpu(lambda launch: 1.0))
    asked.choose({1: groups}, said.append)
    numbers = [[int(each) for each in re.findall(r"\d+", text)] for text in said]
    compiled = next(compiled for compiled, _, chosen, _ in numbers if chosen == 1)
    assert compiled < numbers[-1][1], "the first was chosen when not all kernels were there"
    assert numbers[-1] == [numbers[-1][1], numbers[-1][1], 2, 2]


def test_an_older_triton_guesses_among_what_it_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tactic in (*gemm_gluon.TACTICS, *conv_gluon.TACTICS):
        monkeypatch.setattr(tactic, "compiles", False)
    many = product(4096, 256, 512)
    asked = Chooser(TARGETS["sm_90"], TuningCache(None, "", "sm_90"), KernelCache(tmp_path), processes=1)
    assert chosen(asked, many).tactic == "triton gemm tma"
    tactic = gemm_gluon.HopperGemm(True)
    configuration = tactic.configurations(many, asked.target)[3]
    at_hand = tactic.launches(many, configuration, asked.target)[0].kernel
    asked.kernel_cache.put(kernel_key(at_hand, asked.target), Kernel("k", "k", b"", 1024, 384, (), 2))
    quick = Chooser(asked.target, asked.cache, asked.kernel_cache, Gpu(lambda launch: 1.0), quick=True, processes=1)
    choice = chosen(quick, many)
    assert (choice.tactic, choice.configuration) == ("gluon gemm", configuration), "what is at hand serves"


def test_no_room_to_time_anything_is_no_fault_of_the_kernels(tmp_path: Path) -> None:
    def full(launch: Launch) -> float:
        raise DeviceMemoryError("cuda:0: the tuner's operands needs 64 MiB; 3 of 80000 MiB are free")

    path = tmp_path / "timings.json"
    with pytest.raises(DeviceMemoryError, match=r"none of its kernels could be timed: cuda:0: .* 3 of 80000 MiB"):
        chosen(chooser(path, timer=Gpu(full)))
    assert not path.exists(), "the next build tries again"


def test_what_there_was_no_room_for_is_left_out_and_not_remembered(tmp_path: Path) -> None:
    def some(launch: Launch) -> float:
        if launch.kernel.function.fn.__name__ == "gemv":
            raise DeviceMemoryError("no room")
        return 3.0

    path = tmp_path / "timings.json"
    assert chosen(chooser(path, "sm_80", Gpu(some))).tactic == "triton gemm"
    known = TuningCache(path, "", "sm_80").timings(group_signature(ONE_ROW))
    assert set(known.values()) == {3.0}


def test_kernels_that_do_not_run_are_refused(tmp_path: Path) -> None:
    def broken(launch: Launch) -> float:
        raise DeviceError("an invalid argument")

    with pytest.raises(BuildError, match=r"nothing for it compiles and runs:\n.*an invalid argument"):
        chosen(chooser(tmp_path / "timings.json", timer=Gpu(broken)))


def test_what_is_remembered_as_refused_is_an_error_again(tmp_path: Path) -> None:
    def broken(launch: Launch) -> float:
        raise DeviceError("an invalid argument")

    path = tmp_path / "timings.json"
    first = chooser(path, timer=Gpu(broken))
    with pytest.raises(BuildError, match="an invalid argument"):
        chosen(first)
    first.cache.save()
    for timer in (Gpu(broken), None):
        with pytest.raises(BuildError, match=r"compiles and runs:\n.*refused before, says the timing cache"):
            chosen(chooser(path, timer=timer))


def test_kernels_compile_in_other_processes_than_the_one_that_times(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[int | None] = []

    def alone(sources: Any, target: Any, cache: Any, processes: int | None) -> Any:
        asked_for.append(processes)
        return compile_each(sources, target, cache, 1)

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("trine.backends.cuda.choose.compile_each", alone)
    cache, timer = TuningCache(None, "", "sm_90"), Gpu(lambda launch: 1.0)
    assert chosen(Chooser(TARGETS["sm_90"], cache, KernelCache(None), timer, most=1)).latency_us == 1.0
    assert asked_for == [2]


def test_a_timer_that_fails_ends_what_still_compiles() -> None:
    def lost(launch: Launch) -> float:
        raise DeviceLostError("cuda:0: a kernel failed")

    asked = chooser(timer=Gpu(lost))
    asked.processes = 2
    with pytest.raises(DeviceLostError):
        asked.choose({1: [ONE_ROW, squeeze(128, 4, 2304, 96)]}, lambda text: None)
    assert not [each for each in multiprocessing.active_children() if each.is_alive()]


def test_more_shared_memory_than_the_target_has_is_refused() -> None:
    group, target = squeeze(128, 4, 2304, 96), TARGETS["sm_86"]
    configuration = {"images": 16, "first": 16, "second": 32, "products": 256, "num_warps": 4}
    large, small = (BLOCKS.launches(group, configuration, TARGETS[each])[0].kernel for each in ("sm_90", "sm_86"))
    with pytest.raises(BuildError, match=r"squeeze_layer: a block takes 147456 bytes .* on sm_86 has 101376; smaller"):
        compile_kernel(large, target)
    assert compile_kernel(large, TARGETS["sm_90"]).shared_bytes == 147456
    assert compile_kernel(small, target).shared_bytes <= target.shared_bytes, "the tactic loads less at a time"


def test_a_remembered_kernel_that_the_target_has_no_room_for_is_passed_over() -> None:
    target, tactic = TARGETS["sm_86"], FewRows()
    source = tactic.launches(ONE_ROW, tactic.configurations(ONE_ROW, target)[0], target)[0].kernel
    cache, key = KernelCache(None), kernel_key(source, target)
    kernel = compile_kernel(source, target)
    cache.put(key, replace(kernel, shared_bytes=1 << 20))
    assert compile_all([source], target, cache, 1)[key] == kernel
