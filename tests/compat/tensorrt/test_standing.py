"""Every name of every version is on one of three lists, and the classes hold what the lists say."""

from __future__ import annotations

from pathlib import Path

import pytest

import trine.compat.tensorrt as trt
from trine.compat.tensorrt import eras
from trine.compat.tensorrt.standing import REFUSED, WORKS, standings
from trine.errors import UnsupportedError

VERSIONS = ("8.2", "8.6", "10.0", "10.16", "11.1")
DOCS = Path(__file__).parents[3] / "docs" / "compat-tensorrt.md"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_works_or_is_accepted_is_there(version: str) -> None:
    missing = []
    with eras.override(version):
        for entry in standings(version):
            if entry.list == REFUSED:
                assert entry.reason
                continue
            owner = trt if entry.cls == "<module>" else getattr(trt, entry.cls, None)
            if owner is None or (entry.member and not hasattr(owner, entry.member)):
                missing.append(f"{entry.cls}.{entry.member}")
    assert not missing


def test_enums_have_just_the_members_of_their_version() -> None:
    for version in VERSIONS:
        with eras.override(version):
            for name in ("BuilderFlag", "LayerType", "ActivationType", "NetworkDefinitionCreationFlag", "PaddingMode"):
                assert set(getattr(trt, name).__members__) == set(eras.names_of(version)[name]) - {"__repr__"}, version


def test_most_of_ten_works() -> None:
    outside = ("IPlugin", "Plugin", "IAlgorithm", "DimsExprs", "IDimensionExpr", "IExprBuilder", "DynamicPlugin")
    counted = [entry for entry in standings("10.0") if not entry.cls.startswith(outside)]
    working = sum(entry.list == WORKS for entry in counted)
    assert working / len(counted) >= 0.85


def test_refused_classes_say_why() -> None:
    with pytest.raises(UnsupportedError, match="plugins"):
        trt.IPluginV3()
    with pytest.raises(UnsupportedError, match="algorithm selectors"):
        trt.IAlgorithmSelector()
