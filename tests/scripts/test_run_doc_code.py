"""The documentation's code is executed as its readers would, and a failure is one."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "run_doc_code.py"))


def outcome(folder: Path, text: str) -> Any:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return SCRIPT["run"](page)


def test_blocks_share_a_namespace_and_start_with_the_setup(tmp_path: Path) -> None:
    text = (
        "<!-- setup\nx = 1\n-->\n\n```python\ny = x + 1\n```\n\n```sh\nexit 1\n```\n\n```python\nassert y == 2\n```\n"
    )
    result = outcome(tmp_path, text)
    assert (result.error, result.blocks) == ("", 3)


def test_a_failure_names_the_line_of_the_page(tmp_path: Path) -> None:
    result = outcome(tmp_path, "# Title\n\n```python\nx = 1\nassert x == 2\n```\n")
    assert "page.md" in result.error
    assert "line 5" in result.error
    assert "AssertionError" in result.error


def test_a_block_with_a_reason_is_compiled_and_not_executed(tmp_path: Path) -> None:
    reason = "<!-- not executed: needs a GPU -->\n\n"
    assert outcome(tmp_path, reason + "```python\nraise SystemExit(1)\n```\n").error == ""
    assert "SyntaxError" in outcome(tmp_path, reason + "```python\nif:\n```\n").error


@pytest.mark.parametrize("name", ["README.md", "docs/getting-started.md", "docs/run.md"])
def test_the_pages_have_code_to_execute(name: str) -> None:
    _, executed = SCRIPT["page_program"](ROOT / name)
    assert executed > 1
