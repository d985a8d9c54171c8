"""Whether an engine file runs on a GPU here: which device was asked for, which kernels the file has."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from trine.engine.manifest import Manifest
from trine.engine.portable_graph import PortableGraph
from trine.errors import ConfigError, EngineFormatError, MissingDependencyError, NoDeviceError
from trine.runtime.cuda.plan import CudaPlan, cuda_plan_name

if TYPE_CHECKING:
    from trine.runtime.cuda.executor import CudaExecutor

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
    from trine.runtime.cuda.plan_bytes import plan_from_bytes

    driver = Driver(ordinal)
    here = f"sm_{driver.capability}"
    if here not in targets:
        driver.close()
        raise NoDeviceError(
            f'cuda:{ordinal} ({driver.name}) is an {here}; build it with target="{here}", or load it with device="cpu"'
        )
    name = cuda_plan_name(here)
    section = f"plan/{name}"
    verify(section)
    plan = plan_from_bytes(plans[name], section)
    if plan.shared:
        verify("weights")
    for infos, shapes in ((manifest.inputs, plan.inputs), (manifest.outputs, plan.outputs)):
        wanted = [(info.shape[1:] if plan.rows_vary else info.shape, info.dtype.value) for info in infos]
        known = [shape is not None for shape, _ in shapes]  # else the CPU gives it, in whichever shape it turns out
        if len(wanted) != len(known) or any(
            (want != have if is_known else want[1] != have[1])
            for want, have, is_known in zip(wanted, shapes, known, strict=True)
        ):
            raise EngineFormatError(f"it takes or gives {list(shapes)}, the manifest says {wanted}", section)
    return plan, CudaExecutor(plan, manifest.inputs, manifest.outputs, ordinal, driver, capture, graph)
