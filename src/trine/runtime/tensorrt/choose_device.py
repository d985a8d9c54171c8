"""Whether an engine file's TensorRT plan runs here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from trine.engine.manifest import Manifest, TensorInfo
from trine.errors import MissingDependencyError, NoDeviceError, TrineError
from trine.runtime.cuda.gpu_driver import GpuDriver
from trine.runtime.tensorrt.executor import TensorRTExecutor
from trine.runtime.tensorrt.packages import TensorRT, install_command, installed_tensorrt
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
    ``verify`` is called with the plan's section before its bytes are read, which they are only where a GPU is.

    Raises NoDeviceError and MissingDependencyError when it was asked for and cannot be had, and EngineFormatError for a
    damaged plan.
    """
    if device not in (None, "tensorrt") or (device is None and TENSORRT_PLAN not in plans):
        return None
    if TENSORRT_PLAN not in plans:
        raise NoDeviceError(
            f'{manifest.name}: the engine holds no plan of TensorRT\'s; build the model with device="tensorrt"'
        )

    def read() -> TensorRTPlan:
        verify(f"plan/{TENSORRT_PLAN}")
        return TensorRTPlan.from_bytes(plans[TENSORRT_PLAN])

    try:
        return tensorrt_here(read, manifest.inputs, manifest.outputs)
    except (NoDeviceError, MissingDependencyError) as err:
        if device is not None:
            raise
        log.info("%s: its TensorRT plan does not run here (%s); running on the CPU", manifest.name, err)
        return None


def tensorrt_here(
    read: Callable[[], TensorRTPlan], inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]
) -> tuple[TensorRTPlan, TensorRTExecutor]:
    """The plan that ``read`` gives, on the first GPU.

    In the order of what each costs: the GPU, the plan's bytes, TensorRT's libraries.

    Raises MissingDependencyError without cuda-bindings, or without the package that built it in the version that did;
    NoDeviceError without a GPU, or with one that TensorRT does not run the plan on; as TensorRTExecutor does.
    """
    from trine.runtime.cuda.driver import Driver

    driver = Driver(0)
    try:
        plan = read()
        package = installed_tensorrt(plan.package)
        _refuse_other_version(plan, package)
        _refuse_other_gpus(package, driver)
        return plan, TensorRTExecutor(plan, package, inputs, outputs, driver)
    except TrineError:
        driver.close()
        raise


def _refuse_other_version(plan: TensorRTPlan, package: TensorRT) -> None:
    if package.version != plan.version:
        raise MissingDependencyError(
            f"the plan was built by {plan.package} {plan.version}, and here is {package.version}; a plan is of one "
            f"version: {install_command(plan.package, plan.version)}, or build the model again",
            name=plan.package,
        )


def _refuse_other_gpus(package: TensorRT, driver: GpuDriver) -> None:
    """TensorRT for RTX lists the GPUs that it is for; ``tensorrt`` does not, and says so when it is given a plan."""
    supported = package.capabilities
    if supported and driver.capability not in supported:
        listed = ", ".join(f"{number / 10:.1f}" for number in supported)
        raise NoDeviceError(
            f"{package.name} {package.version} does not support {driver.name}, of compute capability "
            f'{driver.capability / 10:.1f}; it supports {listed}. Load the engine with device="cpu", or build it with '
            'device="cuda"'
        )
