"""Whether an engine file runs on a GPU here: which device was asked for, which kernels the file has."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from trine.engine.manifest import Manifest
from trine.engine.portable_graph import PortableGraph
from trine.errors import ConfigError, EngineFormatError, MissingDependencyError, NoDeviceError
from trine.runtime.cuda.architectures import remedy, runnable
from trine.runtime.cuda.plan import CudaPlan, cuda_plan_name

if TYPE_CHECKING:
    from trine.runtime.cuda.executor import CudaExecutor
    from trine.runtime.cuda.gpu_driver import GpuDriver

__all__ = ["open_on_gpu"]

log = logging.getLogger("trine")

_PREFIX = cuda_plan_name("")


def open_on_gpu(
    device: str | None,
    plans: Mapping[str, bytes | memoryview],
    manifest: Manifest,
    *,
    capture: Literal["first_use", "build"] = "first_use",
    graph: PortableGraph | None = None,
    verify: Callable[[str], None] = lambda section: None,
) -> tuple[CudaPlan, CudaExecutor] | None:
    """The plan and its executor; None when the CPU is to run the engine.

    ``capture``, ``graph``: as CudaExecutor has them. ``verify`` is called with each section of the file that will be
    read; the others' bytes are not touched.

    Raises NoDeviceError, MissingDependencyError when a GPU was asked for and cannot be had, ConfigError for an unknown
    device, EngineFormatError for a damaged plan.
    """
    if capture not in ("first_use", "build"):
        raise ConfigError(f'capture: {capture!r} is unknown; allowed: "first_use", "build"')
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ConfigError(f'device: {device!r} is unknown; allowed: "cpu", "cuda", "cuda:1", ..., "tensorrt" or None')
    targets = sorted(name.removeprefix(_PREFIX) for name in plans if name.startswith(_PREFIX))
    if device == "cpu" or (device is None and not targets):
        return None
    ordinal = int(device.partition(":")[2] or 0) if device is not None else 0
    if not targets:
        raise NoDeviceError(
            f'{manifest.name}: the engine holds no kernels for GPUs; build the model with device="cuda", or load it '
            'with device="cpu"'
        )
    try:
        return _open(ordinal, targets, plans, manifest, capture, graph, verify)
    except NoDeviceError as err:
        text = f"{manifest.name}: the engine holds kernels for {', '.join(targets)}: {err}"
        if device is not None:
            raise NoDeviceError(text) from err
        log.info("%s; running on the CPU", text)
    except MissingDependencyError as err:
        if device is not None:
            raise
        log.info("%s: running on the CPU: %s", manifest.name, err)
    return None


def _open(
    ordinal: int,
    targets: list[str],
    plans: Mapping[str, bytes | memoryview],
    manifest: Manifest,
    capture: Literal["first_use", "build"],
    graph: PortableGraph | None,
    verify: Callable[[str], None],
) -> tuple[CudaPlan, CudaExecutor]:
    from trine.runtime.cuda.driver import Driver
    from trine.runtime.cuda.executor import CudaExecutor

    driver = Driver(ordinal)
    with contextlib.ExitStack() as on_error:
        on_error.callback(driver.close)
        plan = _plan_for(driver, targets, plans, verify)
        _check_plan(plan, manifest)
        executor = CudaExecutor(plan, manifest.inputs, manifest.outputs, ordinal, driver, capture, graph)
        on_error.pop_all()
    return plan, executor


def _plan_for(
    driver: GpuDriver,
    targets: list[str],
    plans: Mapping[str, bytes | memoryview],
    verify: Callable[[str], None],
) -> CudaPlan:
    """The best for this GPU of those that it runs."""
    from trine.runtime.cuda.plan_bytes import plan_from_bytes

    reasons = ""
    for target in runnable(targets, driver.capability):
        section = f"plan/{cuda_plan_name(target)}"
        verify(section)
        plan = plan_from_bytes(plans[cuda_plan_name(target)], section)
        needed = max((kernel.shared_bytes for kernel in plan.kernels), default=0)
        if target != f"sm_{driver.capability}" and needed > driver.shared_bytes:
            reasons += f", whose blocks have {driver.shared_bytes} bytes of shared memory: {target}'s take {needed}"
            continue
        if target != f"sm_{driver.capability}":
            log.info("cuda:%d is an sm_%d; running the kernels for %s", driver.ordinal, driver.capability, target)
        if plan.shared:
            verify("weights")
        return plan
    here = f"cuda:{driver.ordinal} ({driver.name}) is an sm_{driver.capability}"
    raise NoDeviceError(f"{here}{reasons}; {remedy(driver.capability)}")


def _check_plan(plan: CudaPlan, manifest: Manifest) -> None:
    for infos, shapes in ((manifest.inputs, plan.inputs), (manifest.outputs, plan.outputs)):
        wanted = [(info.shape[1:] if plan.rows_vary else info.shape, info.dtype.value) for info in infos]
        known = [shape is not None for shape, _ in shapes]  # else the CPU gives it, in whichever shape it turns out
        if len(wanted) != len(known) or any(
            (want != have if is_known else want[1] != have[1])
            for want, have, is_known in zip(wanted, shapes, known, strict=True)
        ):
            section = f"plan/{cuda_plan_name(plan.target)}"
            raise EngineFormatError(f"it takes or gives {list(shapes)}, the manifest says {wanted}", section)
