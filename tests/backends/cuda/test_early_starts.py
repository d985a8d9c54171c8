"""Early starts are taken where they are faster and change nothing."""

from dataclasses import replace

import numpy as np
import pytest
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, X, Y, plan, plan_with_cpu

from trine.backends.cuda.early_starts import choose_early_starts, with_early_starts
from trine.errors import DeviceError, DeviceLostError
from trine.runtime.cuda.executor import CudaExecutor


class Gpu(RecordingDriver):
    """``gain``: the time of a graph with early starts, over the time of the same graph without."""

    def __init__(self, gain=0.5, kernels=STAND_INS):
        super().__init__(kernels)
        self.gain, self.started_early = gain, False

    def launch(self, executable, stream):
        super().launch(executable, stream)
        self.started_early = any(node.early for node in executable.graph.nodes)

    def elapsed_ms(self, before, after):
        return self.gain if self.started_early else 1.0


def sample(*rows):
    made = plan(*rows)
    return replace(made, kernels=tuple(replace(kernel, waits=True) for kernel in made.kernels))


def chosen(driver, given):
    found = choose_early_starts(given, lambda each: CudaExecutor(each, (X,), (Y,), driver=driver))
    assert driver.nothing_is_held()
    return found


@pytest.mark.parametrize(("gain", "expected"), [(0.9, True), (0.995, False), (1.2, False)])
def test_they_have_to_be_faster(gain, expected):
    given = sample(1, 4)
    found = chosen(Gpu(gain), given)
    assert [bucket.early for bucket in found.buckets] == [expected] * 2
    assert replace(found, buckets=given.buckets) == given


def test_without_a_gpu_all_start_early():
    given = sample(1, 4)
    found = with_early_starts(given)
    assert [bucket.early for bucket in found.buckets] == [True] * 2
    assert replace(found, buckets=given.buckets) == given
    assert with_early_starts(plan(1)) == plan(1), "no kernel waits"


@pytest.mark.parametrize("given", [plan(1), replace(plan_with_cpu(1), kernels=sample().kernels)], ids=["none", "cpu"])
def test_nothing_is_tried_in_vain(given):
    driver = Gpu()
    assert chosen(driver, given) is given
    assert not driver.calls


def test_other_answers_are_not_taken(caplog):
    """One bit in the largest bucket, which a race might leave."""

    def off_by_one(driver, grid, values):
        STAND_INS["copy_out"](driver, grid, values)
        if driver.graphs[-1].nodes[-1].early and grid[0] == 4:
            address = int.from_bytes(values[1], "little")
            driver.array(address, np.uint8, 1)[0] ^= 1

    driver = Gpu(kernels={**STAND_INS, "copy_out": off_by_one})
    found = chosen(driver, sample(1, 4))
    assert [bucket.early for bucket in found.buckets] == [True, False]
    assert "4 rows: launches that start early answer differently" in caplog.text


def test_a_driver_that_refuses_leaves_the_plan_as_it_is():
    class Old(Gpu):
        def add_kernel(self, *given, early=False):
            if early or given[-1] is True:
                raise DeviceError("cuda:0: no such function; launches start early since CUDA 12.3")
            return super().add_kernel(*given)

    given = sample(1)
    assert chosen(Old(), given) == given


def test_too_little_memory_for_two_leaves_the_plan_as_it_is():
    driver = Gpu()
    driver.capacity = 1500
    given = sample(1)
    assert chosen(driver, given) is given


def test_a_lost_device_is_said():
    class Lost(Gpu):
        def launch(self, executable, stream):
            super().launch(executable, stream)
            if self.started_early:
                self.lost = True

    driver = Lost()
    with pytest.raises(DeviceLostError):
        choose_early_starts(sample(1), lambda each: CudaExecutor(each, (X,), (Y,), driver=driver))
