"""Which of TensorRT's packages is taken."""

from __future__ import annotations

import sys
import types

import pytest

from trine.errors import MissingDependencyError
from trine.runtime.tensorrt.packages import installed_tensorrt

NAMES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")


def put(monkeypatch: pytest.MonkeyPatch, **modules: types.ModuleType | None) -> None:
    """Only these packages can be imported."""
    for name in NAMES:
        monkeypatch.setitem(sys.modules, name, modules.get(name))


def made(name: str, version: str, parser: bool = True) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__version__ = version  # type: ignore[attr-defined]
    if parser:
        module.OnnxParser = object  # type: ignore[attr-defined]
    return module


def test_none_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trine\[tensorrt-rtx\]'"):
        installed_tensorrt()


@pytest.mark.parametrize("version", ["10.13.2", "11.0.1"])
def test_tensorrt_comes_first(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    put(monkeypatch, tensorrt=made("tensorrt", version), tensorrt_rtx=made("tensorrt_rtx", "1.7"))
    assert installed_tensorrt().version == version
    assert installed_tensorrt("tensorrt_rtx").name == "tensorrt_rtx"


def test_an_old_one_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, tensorrt=made("tensorrt", "8.6.1"))
    with pytest.raises(MissingDependencyError, match=r"version 8\.6\.1, not 10 or 11"):
        installed_tensorrt()
    put(monkeypatch, tensorrt=made("tensorrt", "8.6.1"), tensorrt_rtx_bindings=made("tensorrt_rtx_bindings", "1.7"))
    assert installed_tensorrt().name == "tensorrt_rtx"


def test_one_without_a_parser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, tensorrt_rtx=made("tensorrt_rtx", "1.0", parser=False))
    with pytest.raises(MissingDependencyError, match=r"tensorrt_rtx 1\.0 has no OnnxParser"):
        installed_tensorrt()


def test_the_stand_in_for_programs_is_not_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import trine.compat.tensorrt as stand_in

    put(monkeypatch, tensorrt=stand_in)
    with pytest.raises(MissingDependencyError):
        installed_tensorrt()
