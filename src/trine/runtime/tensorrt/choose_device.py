"""Whether an engine file's TensorRT plan runs here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from trine.engine.manifest import Manifest, TensorInfo
from trine.errors import MissingDependencyError, NoDeviceError
from trine.runtime.tensorrt.executor import TensorRTExecutor
from trine.runtime.tensorrt.packages import installed_tensorrt
from trine.runtime.tensorrt.plan import TENSORRT_PLAN, TensorRTPlan

__all__ = ["open_on_tensorrt", "tensorrt_here"]

log = logging.getLogger("trine")


def open_on_tensorrt(
    device: str | None,
    plans: Mapping[str, bytes | memoryview],
    manifest: Manifest,
    verify: Callable[[str], None] = lambda section: None,
) -> tuple[TensorRTPlan, TensorRTExecutor] | None:
    """The plan and its executor; None when the engine is to run without TensorRT.

    ``device``: "tensorrt": it has to run; None: it runs if it can, else the log says why not; others: None is returned.
    ``verify`` is called with the plan's section of the file before its bytes are read.

    Raises NoDeviceError and MissingDependencyError when it was asked for and cannot be had, and EngineFormatError for a
    damaged plan.
    """
    if device not in (None, "tensorrt") or (device is None and TENSORRT_PLAN not in plans):
        return None
    if TENSORRT_PLAN not in plans:
        raise NoDeviceError(
            f'{manifest.name}: the engine holds no plan of TensorRT\'s; build the model with device="tensorrt"'
        )
    verify(f"plan/{TENSORRT_PLAN}")
    plan = TensorRTPlan.from_bytes(plans[TENSORRT_PLAN])
    try:
        return plan, tensorrt_here(plan, manifest.inputs, manifest.outputs)
    except (NoDeviceError, MissingDependencyError) as err:
        if device is not None:
            raise
        log.info("%s: its TensorRT plan does not run here (%s); running on the CPU", manifest.name, err)
        return None


def tensorrt_here(
    plan: TensorRTPlan, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]
) -> TensorRTExecutor:
    """The plan on the first GPU.

    Raises MissingDependencyError without the package that built it or without cuda-bindings, NoDeviceError without a
    GPU, or with one that TensorRT does not run the plan on.
    """
    from trine.runtime.cuda.driver import Driver

    driver = Driver(0)  # before TensorRT, whose libraries take seconds to load
    try:
        return TensorRTExecutor(plan, installed_tensorrt(plan.package), inputs, outputs, driver)
    except (NoDeviceError, MissingDependencyError):
        driver.close()
        raise
