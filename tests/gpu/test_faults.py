"""What goes wrong on a GPU is a clear exception, and the next call works where it can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from gpu.gpu_engines import ANY, built, module_of, pictures

import trine
from trine.errors import DeviceMemoryError, NoDeviceError
from trine.runtime.cuda.driver import Driver

pytestmark = pytest.mark.gpu

TESTS = Path(__file__).resolve().parents[1]


@contextmanager
def only_so_much_memory(left: int) -> Iterator[None]:
    """While this lasts, ``left`` bytes of the GPU's memory are free, about."""
    driver = Driver()
    with driver.current:
        taken = []
        size = driver.memory()[0] - left
        while size > 1 << 20:
            try:
                taken.append(driver.allocate(size, "a test"))
                size = driver.memory()[0] - left
            except DeviceMemoryError:
                size //= 2
    try:
        yield
    finally:
        with driver.current:
            for address in taken:
                driver.free(address)


def test_too_little_memory_for_a_call_and_then_enough() -> None:
    """Of 64 rows: their pictures take 3 MB, the activations more."""
    example = (torch.from_numpy(pictures(ANY, 2)),)
    options = {"batch": (1, 64, 64), "buckets": (1, 64), "quick_tuning": True, "verify": False}
    engine = trine.build(module_of(ANY), example, device="cuda", precision="fp16", **options)
    x = pictures(ANY, 64)
    name = engine.manifest.inputs[0].name
    want = engine(x)
    with engine.create_execution_context() as context:
        with only_so_much_memory(4 << 20), pytest.raises(DeviceMemoryError, match=r"close other engines|smaller batch"):
            context.execute({name: x})
        (got,) = context.execute({name: x}).values()
    assert got.tobytes() == want.tobytes()


def test_too_little_memory_to_load_and_to_build() -> None:
    """Of 12 MB of weights, where 1 MB is free."""
    wide = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2048), nn.ReLU(), nn.Linear(2048, 20)).eval()
    example = (torch.from_numpy(pictures("vit", 2)),)
    options = {"device": "cuda", "precision": "fp16", "batch": (1, 2, 2), "quick_tuning": True, "verify": False}
    data = trine.build(wide, example, **options).serialize()
    with only_so_much_memory(1 << 20):
        with pytest.raises(DeviceMemoryError):
            trine.load(data, device="cuda")
        with pytest.raises(DeviceMemoryError):
            trine.build(wide, example, **options)
    trine.load(data, device="cuda").close()


def test_machine_code_for_another_architecture() -> None:
    here = built(ANY).plan.target
    target = "sm_90" if here != "sm_90" else "sm_80"  # neither runs on the other, nor on what is between
    example = (torch.from_numpy(pictures(ANY, 2)),)
    engine = trine.build(module_of(ANY), example, target=target, precision="fp16", batch=(1, 2, 2), verify=False)
    assert engine.device == "cpu"
    with pytest.raises(NoDeviceError, match=f'build it with target="{here}"|{here}'):
        trine.load(engine.serialize(), device="cuda")


LOSE = """
from dataclasses import replace
from gpu.gpu_engines import ANY, built, pictures
from trine.errors import DeviceLostError
from trine.runtime.cuda.executor import CudaExecutor

engine, x = built(ANY), pictures(ANY, 1)
bucket = engine.plan.buckets[0]
first = bucket.launches[1]
place = next(i for i, each in enumerate(first.arguments) if each[0] == "arena")
arguments = (*first.arguments[:place], ("arena", 1 << 45), *first.arguments[place + 1 :])
launches = (bucket.launches[0], replace(first, arguments=arguments), *bucket.launches[2:])
plan = replace(engine.plan, buckets=(replace(bucket, launches=launches), *engine.plan.buckets[1:]))
session = CudaExecutor(plan, engine.manifest.inputs, engine.manifest.outputs).open_session()
for attempt in range(2):
    try:
        session.run([x], [None])
    except DeviceLostError as err:
        print("lost:", "start it anew" in str(err))
"""


def test_a_kernel_that_fails_loses_the_device_and_says_so() -> None:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src"), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", LOSE],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout.splitlines() == ["lost: True", "lost: True"], done.stderr
    assert done.returncode == 0, done.stderr
