from __future__ import annotations

from pathlib import Path

import pytest

from trine.cli.sources import load_source, sole_input
from trine.errors import ConfigError, MissingDependencyError, ModelImportError


def test_an_onnx_file(model_file: Path) -> None:
    source = load_source(str(model_file))
    assert source.is_onnx
    assert sole_input(source) == "images"


def test_a_home_folder_is_expanded(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model_file.parent))
    assert load_source("~/tiny.onnx").model == model_file


def test_a_callable_with_example_inputs(net_file: Path) -> None:
    source = load_source("cli_test_net.py:make_with_inputs")
    assert not source.is_onnx
    assert source.example_inputs[0].shape == (2, 6)
    assert sole_input(source) == "x"


def test_a_callable_with_shapes(net_file: Path) -> None:
    for name in ("", "x"):
        source = load_source("cli_test_net.py:make", shapes={name: ((1, 6), (3, 6), (4, 6))})
        assert source.example_inputs[0].shape == (3, 6)


def test_a_module_that_exists_already(net_file: Path) -> None:
    source = load_source("cli_test_net.py:ready", shapes={"": ((1, 6),) * 3})
    assert type(source.model).__name__ == "Net"


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("no.onnx", ConfigError, "no such file"),
        ("no_such_module_at_all:make", ConfigError, "there is no Python module 'no_such_module_at_all'"),
        ("missing.py:make", ConfigError, "missing.py: no such file"),
        ("cli_test_net.py:mkae", ConfigError, "no 'mkae'; did you mean make"),
        ("cli_test_net.py:NET", ConfigError, "no 'NET'"),
        ("cli_test_net.py:torch", ConfigError, "name a function"),
        ("cli_test_net.py:make", ConfigError, "without example inputs"),
        ("cli_test_net.py:fail", ModelImportError, "RuntimeError: weights.pt is not there"),
        ("json:dumps", ModelImportError, "TypeError"),
        ("os:getcwd", ConfigError, "returned str; return an nn.Module"),
        (":make", ConfigError, "write package.module:callable"),
    ],
)
def test_what_cannot_be_found_is_named(net_file: Path, text: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        load_source(text)


def test_a_misspelt_file(in_folder: Path) -> None:
    (in_folder / "model.onnx").touch()
    with pytest.raises(ConfigError, match=r"did you mean model\.onnx"):
        load_source("modle.onnx")


def test_a_module_whose_own_import_is_missing(in_folder: Path) -> None:
    (in_folder / "cli_needs_more.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(MissingDependencyError, match="pip install a_package_that_is_not_there"):
        load_source("cli_needs_more.py:make")


def test_shapes_must_name_forward_s_parameters(net_file: Path) -> None:
    with pytest.raises(ConfigError, match="no parameter"):
        load_source("cli_test_net.py:make", shapes={"y": ((1, 6),) * 3})


def test_a_file_that_is_no_onnx(in_folder: Path) -> None:
    (in_folder / "text.onnx").write_text("hello")
    with pytest.raises(ModelImportError, match="no ONNX file"):
        sole_input(load_source("text.onnx"))
