from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trine import errors
from trine.cli.failures import ExitCode, describe, print_failure
from trine.cli.main import VERBS
from trine.cli.parser import nearest


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, env=environment)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(trine, verb: str) -> None:
    with pytest.raises(SystemExit) as stop:
        trine(verb, "--help")
    assert stop.value.code == 0


@pytest.mark.parametrize("verb", VERBS)
def test_help_text(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    from trine.cli.main import main

    with pytest.raises(SystemExit):
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert f"usage: trine {verb}" in text
    assert f"\nexamples:\n  trine {verb}" in text
    assert "--json" in text


def test_help_lists_every_verb(trine) -> None:
    result = trine("--help")
    assert result.code == 0
    assert all(f"  {verb} " in result.out for verb in VERBS)
    assert trine().code == ExitCode.USAGE


def test_help_is_quick_to_load() -> None:
    program = (
        "import sys; from trine.cli.main import main\n"
        "for verb in ([], ['build'], ['run'], ['bench'], ['verify'], ['inspect'], ['doctor']):\n"
        "    try: main([*verb, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'onnx', 'onnxruntime', 'openvino', 'rich', 'PIL'} & sys.modules.keys()\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    result = python("-c", program)
    assert result.returncode == 0, result.stderr


def test_python_m_trine() -> None:
    result = python("-m", "trine", "--version")
    assert result.returncode == 0
    assert result.stdout.startswith("trine ")


def test_misspelt_verb(trine) -> None:
    result = trine("biuld", "model.onnx")
    assert (result.code, result.out) == (2, "")
    assert "unknown verb 'biuld'; did you mean `trine build`?" in result.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("build", "m.onnx", "--ouput", "x"), "unknown option --ouput; did you mean --output?"),
        (("build", "m.onnx", "--minshapes=x:1"), "unknown option --minshapes; did you mean --minShapes?"),
        (("build", "m.onnx", "--zzz"), "see: trine build --help"),
        (("build", "m.onnx", "--batch", "8:1"), "argument --batch: batch '8:1': expected 1 <= min"),
        (("build", "m.onnx", "--precision", "int3"), "invalid choice: 'int3'"),
        (("build", "m.onnx", "--threads", "0"), "expected a whole number of at least 1"),
        (("inspect",), "the following arguments are required: engine"),
        (("inspect", "a.trine", "b.trine"), "unexpected argument 'b.trine'"),
        (("--verbos",), "unknown option '--verbos'"),
    ],
)
def test_usage_errors(trine, arguments: tuple[str, ...], says: str) -> None:
    result = trine(*arguments)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


def test_missing_files_are_named(trine, in_folder: Path) -> None:
    for arguments in (("inspect", "no.trine"), ("run", "no.trine"), ("bench", "no.trine"), ("build", "no.onnx")):
        result = trine(*arguments)
        assert result.code in (ExitCode.USAGE, ExitCode.ENGINE_FILE)
        assert arguments[1] in result.err


def test_nearest_ignores_case() -> None:
    assert nearest("--maxshapes", ["--minShapes", "--maxShapes"]) == "--maxShapes"
    assert nearest("qqq", ["build", "run"]) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AccuracyError("off", None), 1),
        (errors.ConfigError("odd"), 2),
        (errors.InputError("odd"), 2),
        (errors.ModelImportError("odd"), 3),
        (errors.UnsupportedError("odd", ["Foo"]), 3),
        (errors.ExternalDataError("odd"), 3),
        (errors.EngineFormatError("odd", "graph"), 4),
        (errors.EngineVersionError("odd", "header"), 4),
        (errors.EngineSaveError("odd"), 4),
        (errors.BuildError("odd"), 5),
        (errors.MissingDependencyError("odd"), 6),
        (FileNotFoundError(2, "No such file", "x"), 2),
        (KeyError("x"), 70),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert describe(error)[0] == code


def test_every_error_of_trine_has_an_exit_code() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if kind is not errors.TrineError:
            assert describe(kind.__new__(kind))[0] != ExitCode.INTERNAL, name


def test_a_failure_is_one_block(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.BuildError("nothing could run", {"openvino": "no Foo"})
    assert print_failure("trine build", error, show_traceback=False) == 5
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "trine build: no tactic could compile the model"
    assert lines[1:3] == ["  nothing could run", "  openvino: no Foo"]
    assert all(line.startswith("  ") for line in lines[1:])


def test_names_in_files_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_failure("trine", errors.ConfigError("node '\x1b[2Jgone\x07'"), show_traceback=False)
    text = capsys.readouterr().err
    assert "\x1b" not in text
    assert "\\x1b[2Jgone\\x07" in text


@pytest.mark.parametrize(("arguments", "variables"), [((), {"TRINE_DEBUG": "1"}), (("--verbose",), {})])
def test_tracebacks_only_when_asked_for(tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    (tmp_path / "no.trine").write_bytes(b"nonsense")
    quiet = python("-m", "trine", "inspect", str(tmp_path / "no.trine"))
    loud = python("-m", "trine", "inspect", str(tmp_path / "no.trine"), *arguments, **variables)
    assert quiet.returncode == loud.returncode == ExitCode.ENGINE_FILE
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_a_reader_that_stops_early(engine_file: Path) -> None:
    command = f"{sys.executable} -m trine inspect {engine_file} --json | head -c 10"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment)
    assert result.stderr == ""


def test_json_is_the_only_thing_on_stdout(trine, engine_file: Path) -> None:
    for verb in ("inspect", "run"):
        assert json.loads(trine(verb, engine_file, "--json").out)
