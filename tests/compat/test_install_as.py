"""Putting trine's packages in the place of others: imports that find them, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trine.compat import install_as
from trine.compat.run import main
from trine.errors import ConfigError


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: what is installed stays."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_imports_find_trines_modules() -> None:
    result = run(
        "import trine.compat\n"
        "module = trine.compat.install_as('tensorrt', era='8')\n"
        "trine.compat.install_as('pycuda')\n"
        "import tensorrt, pycuda.driver, trine.compat.pycuda.driver\n"
        "from tensorrt import *\n"
        "assert tensorrt is module and pycuda.driver is trine.compat.pycuda.driver\n"
        "assert Logger is tensorrt.Logger and volume((2, 3)) == 6 and float32 is tensorrt.float32\n"
        "assert tensorrt.__version__.startswith('8.'), tensorrt.__version__\n"
        "try:\n    import tensorrt.nothing\nexcept ModuleNotFoundError:\n    print('as it should be')\n"
    )
    assert result.stdout.strip() == "as it should be", result.stderr


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known: tensorrt"):
        install_as("caffe")
    with pytest.raises(ConfigError, match="era"):
        install_as("pycuda", era="8")
    with pytest.raises(ConfigError, match="era '3' is unknown"):
        install_as("tensorrt", era="3")
    (tmp_path / "tensorrt.py").write_text("")
    result = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import tensorrt, trine.compat\n"
        "try:\n    trine.compat.install_as('tensorrt')\nexcept trine.ConfigError as err:\n    print(err)\n"
    )
    assert "imported before" in result.stdout, result.stderr


def test_the_command_line_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--era", "3", "script.py"]) == 2
    assert "era '3' is unknown" in capsys.readouterr().err


def test_the_extension_module_has_the_package_s_names() -> None:
    code = (
        "import trine.compat; trine.compat.install_as('tensorrt', era='8'); from tensorrt.tensorrt import Logger; "
        "import tensorrt; assert Logger is tensorrt.Logger"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
