"""The tuner on a recording driver: what it launches, over which memory, and what it leaves behind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.cuda.kernels.test_gather_rows import TACTIC, gather
from backends.cuda.kernels.test_gemm import product, tile
from runtime.cuda.recording_driver import RecordingDriver

from trine.backends.cuda import device_timer
from trine.backends.cuda.device_timer import DeviceTimer
from trine.backends.cuda.groups import Buffer, Group
from trine.backends.cuda.kernels.gemm_launch import GemmTiles
from trine.backends.cuda.tactic import CudaTactic, Launch, Pointer, Rows, Scalar, Scratch
from trine.backends.cuda.target import TARGETS
from trine.errors import DeviceError, DeviceMemoryError, NoDeviceError
from trine.runtime.cuda.plan import Kernel

SM90 = TARGETS["sm_90"]


class Gpu(RecordingDriver):
    """Every kernel writes down its parameters."""

    def __init__(self, ordinal: int = 0, capability: int = 90) -> None:
        self.launched: list[tuple[bytes, ...]] = []
        super().__init__({"kernel": self._note_parameters}, capability, capacity=300 << 20)

    def _note_parameters(self, driver: RecordingDriver, grid: Any, values: tuple[bytes, ...]) -> None:
        self.launched.append(values)


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceTimer]:
    monkeypatch.setattr(device_timer, "Driver", Gpu)
    made = DeviceTimer()
    yield made
    made.close()
    gpu: Any = made.driver
    assert gpu.nothing_is_held()
    assert gpu.count("close") == 1


def timed(timer: DeviceTimer, tactic: CudaTactic, group: Group, configuration: Any) -> tuple[float, Sequence[Launch]]:
    launches = tactic.launches(group, configuration, SM90)
    return timer.time(group, launches, [kernel_of(launch) for launch in launches]), launches


def kernel_of(launch: Launch) -> Kernel:
    """As compiling would give it, for parameters of the launch's types."""
    kinds = []
    for argument in launch.arguments:
        assert isinstance(argument, Pointer | Scratch | Scalar | Rows)
        kinds.append("pointer" if isinstance(argument, Pointer | Scratch) else getattr(argument, "dtype", "i32"))
    return Kernel("kernel", "kernel", b"code", 0, 128, tuple(kinds), null_pointers=0)


def addresses(timer: DeviceTimer, launches: Sequence[Launch], operand: Buffer, rounds: int) -> list[int]:
    """Where the launches of the last measurement found it."""
    gpu: Any = timer.driver
    views = [getattr(argument, "view", None) for argument in launches[0].arguments]
    position = next(index for index, view in enumerate(views) if view is not None and view.buffer is operand)
    return [int.from_bytes(values[position], "little") for values in gpu.launched[:rounds]]


@pytest.mark.parametrize("rows", [512, 32768])
def test_operands_go_round_so_that_no_cache_holds_them(timer: DeviceTimer, rows: int) -> None:
    """But for activations that fit it: the launch before has just written them."""
    group = product(rows, 128, 128)
    microseconds, launches = timed(timer, GemmTiles(), group, tile(64, 64, 32))
    gpu: Any = timer.driver
    rounds = len(gpu.graphs[-1].nodes)
    assert microseconds == 500.0 / rounds  # the driver says that half a millisecond passed
    weights = addresses(timer, launches, group.b.buffer, rounds)
    sets = len(set(weights))
    assert sets > 3
    assert len(set(addresses(timer, launches, group.a.buffer, rounds))) == (1 if rows == 512 else sets)
    apart = 2 * 128 * 128 + (0 if rows == 512 else 2 * 2 * rows * 128)
    assert all(after - before >= apart for before, after in itertools.pairwise(sorted(set(weights))))


def test_each_launch_fetches_the_next_one_s_weights_and_starts_early(timer: DeviceTimer) -> None:
    group = product(64, 128, 128)
    launches = GemmTiles().launches(group, tile(64, 64, 32), SM90)
    kernel = replace(kernel_of(launches[0]), null_pointers=2, waits=True)
    timer.time(group, launches, [kernel])
    gpu: Any = timer.driver
    rounds = len(gpu.graphs[-1].nodes)
    weights = addresses(timer, launches, group.b.buffer, rounds)
    fetched = [int.from_bytes(values[-2], "little") for values in gpu.launched[:rounds]]
    assert fetched[:-1] == weights[1:]
    assert [node.early for node in gpu.graphs[-1].nodes] == [False] + [True] * (rounds - 1)


@pytest.mark.parametrize("at_fault", ["early starts", "the kernel"])
def test_early_starts_that_the_driver_refuses(
    timer: DeviceTimer, monkeypatch: pytest.MonkeyPatch, at_fault: str
) -> None:
    """They are given up; not for a kernel that cannot be launched in any way, or others would be timed without."""
    gpu: Any = timer.driver
    add, refuses = gpu.add_kernel, [True]

    def refuse(*given: Any) -> Any:
        if refuses[0] and (given[-1] or at_fault == "the kernel"):
            raise DeviceError("cuGraphAddKernelNode: CUDA_ERROR_INVALID_VALUE")
        return add(*given)

    monkeypatch.setattr(gpu, "add_kernel", refuse)
    group = product(64, 128, 128)
    launches = GemmTiles().launches(group, tile(64, 64, 32), SM90)
    waiting = replace(kernel_of(launches[0]), null_pointers=2, waits=True)
    if at_fault == "the kernel":
        with pytest.raises(DeviceError, match="INVALID_VALUE"):
            timer.time(group, launches, [waiting])
    else:
        timer.time(group, launches, [waiting])
    refuses[0] = False
    timer.time(group, launches, [waiting])
    assert any(node.early for node in gpu.graphs[-1].nodes) == (at_fault == "the kernel")


def test_small_weights_are_not_fetched(timer: DeviceTimer) -> None:
    group = product(64, 32, 32)
    launches = GemmTiles().launches(group, tile(64, 32, 32), SM90)
    timer.time(group, launches, [replace(kernel_of(launches[0]), null_pointers=2, waits=True)])
    gpu: Any = timer.driver
    assert all(values[-2:] == (bytes(8), bytes(8)) for values in gpu.launched)


def test_launches_follow_one_another(timer: DeviceTimer) -> None:
    _, launches = timed(timer, GemmTiles(), product(32, 64, 512), tile(32, 32, 32, split=4))
    assert len(launches) == 2  # partial sums, and their sum
    gpu: Any = timer.driver
    nodes = gpu.graphs[-1].nodes
    assert [len(node.after) for node in nodes] == [0] + [1] * (len(nodes) - 1)
    assert all(node.after[0] is before for before, node in itertools.pairwise(nodes))


def test_indices_are_the_group_s_and_operands_are_random(timer: DeviceTimer) -> None:
    index = [3, -1, 0, 2, 1]
    group = gather(index, 64)
    seen = []

    def look(driver: RecordingDriver, grid: Any, values: tuple[bytes, ...]) -> None:
        pointers = [int.from_bytes(value, "little") for value in values if len(value) == 8]
        x, indices = (pointers[position] for position in positions)
        seen.append(driver.array(indices, np.int32, len(index)).tolist())
        assert np.std(driver.array(x, np.float16, 64).astype(np.float32)) > 0.1

    gpu: Any = timer.driver
    gpu.kernels["kernel"] = look
    configuration = TACTIC.configurations(group, SM90)[0]
    (launch,) = TACTIC.launches(group, configuration, SM90)
    buffers = [each.view.buffer for each in launch.arguments if isinstance(each, Pointer)]
    positions = [buffers.index(view.buffer) for view in (group.x, group.index)]
    timer.time(group, [launch], [kernel_of(launch)])
    assert seen
    assert all(each == index for each in seen)


def test_a_group_larger_than_the_pool(timer: DeviceTimer) -> None:
    with pytest.raises(DeviceMemoryError, match=r"g: 1.* MiB of operands, the tuner has 128"):
        timed(timer, GemmTiles(), product(8192, 4096, 4096), tile(64, 64, 32))


@pytest.mark.parametrize("capability", [61, 75, 87, 120])
def test_a_gpu_that_trine_does_not_know(monkeypatch: pytest.MonkeyPatch, capability: int) -> None:
    gpu = Gpu(capability=capability)
    monkeypatch.setattr(device_timer, "Driver", lambda ordinal: gpu)
    says = rf'\(a recording driver\) is an sm_{capability}, .* for sm_80, .*sm_90, .* only; build with device="cpu"'
    with pytest.raises(NoDeviceError, match=says):
        DeviceTimer()
    assert gpu.count("close") == 1


def test_the_caller_s_gpu_is_left_as_it_was(timer: DeviceTimer) -> None:
    gpu: Any = timer.driver
    assert not gpu._threads
    timed(timer, GemmTiles(), product(64, 128, 128), tile(64, 64, 32))
    assert not gpu._threads


def test_too_little_memory_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu()
    monkeypatch.setattr(device_timer, "Driver", lambda ordinal: gpu)
    monkeypatch.setattr(gpu, "memory", lambda: (_ for _ in ()).throw(DeviceMemoryError("none left")))
    with pytest.raises(DeviceMemoryError):
        DeviceTimer()
    assert gpu.count("close") == 1
