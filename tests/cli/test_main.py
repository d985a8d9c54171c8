from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import trine as package
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
    assert result.stdout == f"trine {package.__version__}\n"


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
        (("inspect",), "  ENGINE is missing\n"),
        (("run",), "  ENGINE is missing\n"),
        (("verify", "a.trine", "--quiet"), "  SOURCE is missing\n"),
        (("run", "a.trine", "--seed", "-1"), "argument --seed: expected a whole number of at least 0, got '-1'"),
        (("build", "m.onnx", "--int8"), "unknown option --int8; see: trine build --help"),
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
    assert nearest("--int8", ["--quiet"]) is None  # the dashes are no likeness


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AccuracyError("off", None), 1),
        (errors.ConfigError("odd"), 2),
        (errors.InputError("odd"), 2),
        (errors.ExecutionError("odd"), 5),
        (errors.ModelImportError("odd"), 3),
        (errors.UnsupportedError("odd", ["Foo"]), 3),
        (errors.ExternalDataError("odd"), 3),
        (errors.EngineFormatError("odd", "graph"), 4),
        (errors.EngineVersionError("odd", "header"), 4),
        (errors.EngineSaveError("odd"), 4),
        (errors.BuildError("odd"), 5),
        (errors.MissingDependencyError("odd"), 6),
        (FileNotFoundError(2, "No such file", "x"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 4),
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


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``command``, in which ``trine`` is the command line, by bash; its first command's exit code."""
    command = command.replace("trine ", f"{sys.executable} -m trine ") + "; exit ${PIPESTATUS[0]}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize("options", ["--json", "--layers"])
def test_a_reader_that_stops_early(engine_file: Path, options: str) -> None:
    # The reader is gone before anything is written, so that no buffer hides it.
    result = shell(f"trine inspect '{engine_file}' {options} | exec true")
    assert (result.returncode, result.stderr) == (ExitCode.BROKEN_PIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_under_the_output(engine_file: Path) -> None:
    result = shell(f"trine inspect '{engine_file}' >/dev/full")
    assert result.returncode == ExitCode.ENGINE_FILE
    assert result.stderr.splitlines()[1:] == ["  No space left on device"]


def test_stdout_and_stderr_may_be_closed(engine_file: Path) -> None:
    assert shell(f"trine run '{engine_file}' >&-").returncode == ExitCode.OK
    assert shell("trine run nothing.trine 2>&-").returncode == ExitCode.USAGE


def test_names_that_the_output_encoding_lacks(engine_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "caf\u00e9.trine"
    copy.write_bytes(engine_file.read_bytes())
    result = shell(f"trine bench '{copy}' --json --duration 0", PYTHONIOENCODING="ascii")
    assert result.returncode == ExitCode.OK, result.stderr
    result = shell(f"trine inspect '{copy}' --html '{tmp_path}/\u65e5.html'", PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (ExitCode.OK, f"wrote {tmp_path}/\\u65e5.html\n")


def on_a_terminal(*arguments: str, columns: int = 80, **variables: str) -> str:
    """What a command prints when stdout and stderr are a terminal."""
    pty = pytest.importorskip("pty")
    mine, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}
    environment["COLUMNS"] = str(columns)
    process = subprocess.Popen(
        [sys.executable, "-m", "trine", *arguments], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    parts = []
    try:
        while part := os.read(mine, 65536):
            parts.append(part)
    except OSError:
        pass  # Linux's way to say that the other side closed the terminal
    finally:
        os.close(mine)
    process.wait(timeout=60)
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_errors_are_coloured_on_a_terminal_that_wants_it() -> None:
    assert on_a_terminal("run", "nothing.trine", TERM="xterm", NO_COLOR="").startswith("\033[31m\033[1mtrine run: ")
    for variables in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb", "NO_COLOR": ""}):
        assert on_a_terminal("run", "nothing.trine", **variables).startswith("trine run: ")


def test_narrow_terminals_fold_lines_and_not_numbers(engine_file: Path) -> None:
    text = on_a_terminal(
        "bench", str(engine_file), "--vs", "onnxruntime", "--duration", "0.1", columns=40, NO_COLOR="1"
    )
    assert "\u2026" not in text
    assert "time / trine's" in text


def _listen_to_ctrl_c() -> None:
    """For a new process: a shell's background jobs, and what they start, ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("arguments", [("--streams", "2", "--threads", "1"), ("--vs", "onnxruntime,openvino")])
def test_ctrl_c_while_backends_compute(engine_file: Path, arguments: tuple[str, ...]) -> None:
    command = [
        sys.executable,
        "-m",
        "trine",
        "bench",
        str(engine_file),
        "--warmUp",
        "0",
        "--duration",
        "60",
        *arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env=environment, preexec_fn=_listen_to_ctrl_c) as process:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=4)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err) == (ExitCode.INTERRUPTED, "\ntrine bench: interrupted; nothing was left behind\n")


def test_ctrl_c_in_the_middle_of_an_import_is_no_bug(tmp_path: Path) -> None:
    """Packages turn a KeyboardInterrupt of their half done import into errors of their own."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    import time; time.sleep(9)\n"
        "except KeyboardInterrupt as err:\n    raise ImportError('please read this advice') from err\n"
    )
    command = [sys.executable, "-m", "trine", "build", f"{tmp_path / 'slow.py'}:make"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, preexec_fn=_listen_to_ctrl_c
    )
    assert (result.returncode, result.stderr) == (130, "\ntrine build: interrupted; nothing was left behind\n")


def test_json_is_the_only_thing_on_stdout(trine, engine_file: Path) -> None:
    for verb in ("inspect", "run"):
        assert json.loads(trine(verb, engine_file, "--json").out)
