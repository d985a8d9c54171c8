"""Every ``trine`` command line that the pages show is one that trine takes."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from trine.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/*/*.md"))]
SHELL = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in SHELL.findall(page.read_text(encoding="utf-8")):
            lines = block.replace("\\\n", " ").splitlines()
            found += [
                (page.name, line.removeprefix("$ ").strip())
                for line in lines
                if line.removeprefix("$ ").startswith("trine ")
            ]
    return found


@pytest.mark.parametrize(("page", "command"), commands())
def test_the_command_line_parses(page: str, command: str) -> None:
    _, verb, *rest = shlex.split(re.split(r"\s[|>]\s?", command)[0], comments=True)
    if verb.startswith("-") or "--help" in rest:
        return
    assert verb in VERBS, page
    importlib.import_module(f"trine.cli.{verb}").parser().parse(rest)


def test_there_are_command_lines() -> None:
    assert len(commands()) > 10
