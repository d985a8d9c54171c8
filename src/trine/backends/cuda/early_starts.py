"""Whether launches are started before those that they wait for have ended: tried on the GPU, bucket by bucket.

Without a GPU to try, they are: that was faster in 25 of 32 buckets of eight networks on an H200, and no slower in the
others.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import numpy as np

from trine.backends.cuda.device_timer import gpu_for_oneself
from trine.dtypes import DataType
from trine.errors import DeviceMemoryError
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.plan import CudaPlan
from trine.runtime.cuda.session import CudaSession

__all__ = ["choose_early_starts", "with_early_starts"]

log = logging.getLogger(__name__)

_COMPARED = 3  # calls with fresh inputs, each on a poisoned arena
_SAMPLES = 7
_CALLS = 10  # of a sample
_NUMBERS = 1_000_003  # a prime: rows begin at different ones
_WORTH_IT = 0.99  # of the time without


def with_early_starts(plan: CudaPlan) -> CudaPlan:
    """``plan``, with ``early`` set for all buckets, if its kernels can wait and the CPU has no part in it."""
    if not any(kernel.waits for kernel in plan.kernels) or plan.cpu_parts:
        return plan
    return dataclasses.replace(plan, buckets=tuple(dataclasses.replace(each, early=True) for each in plan.buckets))


def choose_early_starts(plan: CudaPlan, open_plan: Callable[[CudaPlan], CudaExecutor]) -> CudaPlan:
    """``plan``, with ``early`` set for the buckets that answer the same, bit for bit, and sooner by it.

    ``open_plan`` puts a plan on the GPU. Too little memory for both leaves the plan as it is. Raises
    DeviceLostError, after which nothing works in this process.
    """
    early = with_early_starts(plan)
    if early is plan:
        return plan
    executors = [open_plan(plan)]
    try:
        executors.append(open_plan(early))
        sessions = [executor.open_session() for executor in executors]
        with gpu_for_oneself(executors[0].driver.ordinal):
            chosen = [
                with_it if _is_better(plan, bucket.rows, *sessions) else bucket
                for bucket, with_it in zip(plan.buckets, early.buckets, strict=True)
            ]
    except DeviceMemoryError:  # two engines side by side are more than the one that was asked for
        return plan
    finally:
        for executor in executors:
            executor.close()
    return dataclasses.replace(plan, buckets=tuple(chosen))


def _is_better(plan: CudaPlan, rows: int, plain: CudaSession, early: CudaSession) -> bool:
    random = np.random.default_rng(0)
    for _ in range(_COMPARED):
        inputs = _inputs(plan, rows, random)
        answers = []
        for session in (plain, early):
            session.poison()
            answers.append(session.run(inputs, [None] * len(plan.outputs)))
        if any(first.tobytes() != second.tobytes() for first, second in zip(*answers, strict=True)):
            log.warning("%d rows: launches that start early answer differently; they are not used", rows)
            return False
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_SAMPLES):
        for session, found in zip((plain, early), times, strict=True):
            found.append(session.time_calls(rows, _CALLS))
    late, soon = (min(each) for each in times)  # what else the GPU does meanwhile can only add
    log.info("%d rows: %.1f us; with launches that start early %.1f us", rows, late, soon)
    return soon < _WORTH_IT * late


def _inputs(plan: CudaPlan, rows: int, random: np.random.Generator) -> list[np.ndarray]:
    """Random numbers, of which there are fewer than elements; zeros for integers, which may be indices."""
    made = []
    numbers = random.standard_normal(_NUMBERS, np.float32)
    for shape, dtype in plan.inputs:
        whole = (rows, *shape) if plan.rows_vary else shape
        kind = DataType(dtype)
        values = np.resize(numbers, whole) if kind.is_floating else np.zeros(whole)
        made.append(values.astype(kind.numpy, copy=False))
    return made
