"""The one direction of docs/architecture.md, held: what runs engines imports nothing of what builds them."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from new_process import in_new_process

import trine

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "trine"

RUN_SIDE = ("engine", "runtime", "report", "dtypes.py", "errors.py", "profile.py", "structure.py", "versions.py")
BUILD_SIDE = ("importers", "network", "passes", "precision", "builder", "backends")
BUILD_ONLY = ("torch", "onnx", "onnx_ir", "onnxscript", "triton")


def run_side_files() -> list[Path]:
    paths = [PACKAGE / name for name in RUN_SIDE]
    return [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def imported_modules(node: ast.AST) -> Iterator[str]:
    """Every module imported below ``node``, in functions too; not those imported for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute here"
            yield child.module or ""
        yield from imported_modules(child)


@pytest.mark.parametrize("path", run_side_files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_run_side_imports_nothing_that_only_building_needs(path: Path) -> None:
    forbidden = BUILD_ONLY + tuple(f"trine.{name}" for name in BUILD_SIDE)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [
        module
        for module in imported_modules(tree)
        if any(module == name or module.startswith(f"{name}.") for name in forbidden)
    ]
    assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_the_architecture_page_names_every_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = [path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")]
    missing = [name for name in folders if name != "." and f"src/trine/{name}" not in page]
    assert not missing


def test_a_process_that_only_runs_an_engine_loads_nothing_of_what_builds_them(tmp_path: Path) -> None:
    engine = trine.build(torch.nn.Linear(3, 2), torch.ones(2, 3), batch=(1, 2, 4))
    path = tmp_path / "linear.trine"
    engine.save(path)
    program = f"""
        import sys
        import numpy as np
        import trine
        trine.load({str(path)!r})(np.ones((2, 3), np.float32))
        print(*[name for name in {BUILD_ONLY} if name in sys.modules])
    """
    assert in_new_process(textwrap.dedent(program)) == ""
