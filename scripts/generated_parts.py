"""Pages with generated parts, which stand between ``<!-- generated:NAME -->`` and ``<!-- /generated -->``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

PART = re.compile(r"(<!-- generated:(\w+) -->\n)(.*?)(<!-- /generated -->)", re.DOTALL)

Parts = Mapping[str, Callable[[], str]]  # what makes each part, by its name


def fill(text: str, parts: Parts) -> str:
    """``text`` with its generated parts made anew."""
    return PART.sub(lambda match: f"{match[1]}{parts[match[2]]()}\n{match[4]}", text)


def main(description: str | None, page: Path, parts: Parts) -> int:
    """Rewrite the page's generated parts; with ``--check``, only say whether they are out of date."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    text = page.read_text(encoding="utf-8")
    fresh = fill(text, parts)
    if fresh == text:
        return 0
    if args.check:
        print(f"docs/{page.name} is out of date; run python scripts/{Path(sys.argv[0]).name}")
        return 1
    page.write_text(fresh, encoding="utf-8")
    return 0
