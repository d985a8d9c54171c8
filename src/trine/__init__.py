"""trine: a trained PyTorch model to fast, verified inference in three steps: import, build, run.

    engine = trine.build(model, example_inputs)
    engine.save("net.trine")
    y = trine.load("net.trine")(x)

Names are loaded when first used: importing trine loads neither torch nor any backend.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trine.builder.builder import build
    from trine.builder.config import BuilderConfig
    from trine.dtypes import DataType
    from trine.engine.engine import Engine
    from trine.engine.manifest import Manifest, TensorInfo
    from trine.importers.converters import converter
    from trine.network.network import Network
    from trine.profile import OptimizationProfile, ShapeRange
    from trine.runtime.context import ExecutionContext
    from trine.runtime.runtime import load
    from trine.verify.report import Report
    from trine.verify.verify_engine import verify

__version__ = "0.1.0"

_HOMES = {
    "BuilderConfig": "trine.builder.config",
    "DataType": "trine.dtypes",
    "Engine": "trine.engine.engine",
    "ExecutionContext": "trine.runtime.context",
    "Manifest": "trine.engine.manifest",
    "Network": "trine.network.network",
    "OptimizationProfile": "trine.profile",
    "Report": "trine.verify.report",
    "ShapeRange": "trine.profile",
    "TensorInfo": "trine.engine.manifest",
    "build": "trine.builder.builder",
    "converter": "trine.importers.converters",
    "load": "trine.runtime.runtime",
}
_ERRORS = (
    "AccuracyError",
    "BuildError",
    "ConfigError",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "EngineFormatError",
    "EngineSaveError",
    "EngineVersionError",
    "ExecutionError",
    "ExternalDataError",
    "InputError",
    "MissingDependencyError",
    "ModelImportError",
    "NoDeviceError",
    "TrineError",
    "UnsupportedError",
)
_EXTRAS = {"onnx": "onnx", "onnx_ir": "onnx", "onnxscript": "onnx", "torch": "torch"}  # module: the extra that has it
_HOMES.update(dict.fromkeys(_ERRORS, "trine.errors"))

__all__ = [
    "AccuracyError",
    "BuildError",
    "BuilderConfig",
    "ConfigError",
    "DataType",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "Engine",
    "EngineFormatError",
    "EngineSaveError",
    "EngineVersionError",
    "ExecutionContext",
    "ExecutionError",
    "ExternalDataError",
    "InputError",
    "Manifest",
    "MissingDependencyError",
    "ModelImportError",
    "Network",
    "NoDeviceError",
    "OptimizationProfile",
    "Report",
    "ShapeRange",
    "TensorInfo",
    "TrineError",
    "UnsupportedError",
    "build",
    "converter",
    "load",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        try:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        except ModuleNotFoundError as err:
            from trine.errors import MissingDependencyError

            package = (err.name or "").partition(".")[0]
            if package not in _EXTRAS:
                raise
            raise MissingDependencyError(
                f"trine.{name} needs the package {package}, which is not installed: "
                f"pip install 'trine[{_EXTRAS[package]}]'"
            ) from err
        globals()[name] = value
        return value
    if name == "verify":  # a package that can be called; importing it makes it an attribute
        return importlib.import_module("trine.verify")
    raise AttributeError(f"module 'trine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
