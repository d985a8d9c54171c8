"""The link check finds what is broken, and only that."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = runpy.run_path(str(ROOT / "scripts" / "check_links.py"))

PAGE = """# A page

## Two words: `code`, punctuation!
## Again
## Again

[good](other.md), ![good](picture.png "title"), [good](#two-words-code-punctuation), [good](#again-1),
[good](other.md#there), [good](folder/), [elsewhere](https://example.org/x), `[code](nowhere.md)`
[bad](gone.md), [bad](#absent), [bad](other.md#absent), [bad](http://example.org)

```md
[code](nowhere.md)
```
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "picture.png").touch()
    (tmp_path / "other.md").write_text("# There\n", encoding="utf-8")
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    monkeypatch.setitem(CHECK["problem"].__globals__, "ROOT", tmp_path)
    return path


def test_broken_links_are_named_and_good_ones_are_not(page: Path) -> None:
    known = set(page.parent.iterdir())
    problems = [CHECK["problem"](page, target, known) for _, target in CHECK["links"](page)]
    assert [problem for problem in problems if problem] == [
        "gone.md does not exist",
        "no heading #absent in page.md",
        "no heading #absent in other.md",
        "write https, not http",
    ]
    assert len(problems) == 11


def test_links_carry_their_line(page: Path) -> None:
    assert [line for line, target in CHECK["links"](page) if target == "gone.md"] == [9]
