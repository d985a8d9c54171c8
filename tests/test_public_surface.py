"""What users may rely on: the public names, and how little ``import trine`` brings in."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from new_process import in_new_process

import trine
import trine.errors

ROOT = Path(__file__).resolve().parents[1]

PUBLIC = [
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

HEAVY = ("torch", "torchvision", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "triton")


def test_public_names_are_these() -> None:
    """A name added or removed changes what users may rely on: change this list and CHANGELOG.md with it."""
    assert sorted(trine.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(trine, name)
    assert name in dir(trine)
    assert value.__doc__


def test_every_error_is_public() -> None:
    assert set(trine.errors.__all__) <= set(trine.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="bulid"):
        _ = trine.bulid  # type: ignore[attr-defined]


def test_import_loads_no_framework() -> None:
    program = f"import sys, trine; print(*[name for name in {HEAVY} if name in sys.modules])"
    assert in_new_process(program) == ""


def test_version_is_the_package_version() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{trine.__version__}"' in pyproject


@pytest.mark.parametrize("module", ["onnx", "onnx_ir", "onnxscript"])
def test_building_without_the_extra_names_it(module: str) -> None:
    code = f"""
        import sys
        sys.modules[{module!r}] = None
        import trine
        try:
            trine.build
        except trine.MissingDependencyError as err:
            print(err)
    """
    assert "pip install 'trine[onnx]'" in in_new_process(textwrap.dedent(code))
