"""Checks that every link in the repository's Markdown files leads somewhere.

A relative link must name a file or folder that git knows; ``#anchor`` must name a heading of the file that it
points at, by GitHub's rule. Links to other sites are not fetched: the check works offline. Prints each broken
link as ``file:line: reason`` and exits with 1 if there is any.

    python scripts/check_links.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^\s*(```|~~~)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
DEFINITION = re.compile(r"^\s{0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$")
HTML_LINK = re.compile(r"\b(?:href|src)=\"([^\"]+)\"")
HTML_ANCHOR = re.compile(r"\b(?:id|name)=\"([^\"]+)\"")


def tracked_files() -> list[Path]:
    """Files that git tracks or would track, so that a link to an ignored local file counts as broken."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for name in listing.stdout.splitlines() if (path := ROOT / name).exists()]


def prose_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of every line outside fenced code."""
    in_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if FENCE.match(line):
            in_code = not in_code
        elif not in_code:
            yield number, line


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading: lower case, punctuation dropped, spaces to hyphens."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """Every anchor in a Markdown file; repeated headings get -1, -2, ..."""
    found: set[str] = set()
    times_seen: dict[str, int] = {}
    for _, line in prose_lines(path):
        if heading := HEADING.match(line):
            anchor = slug(heading[1])
            times = times_seen.get(anchor, 0)
            times_seen[anchor] = times + 1
            found.add(f"{anchor}-{times}" if times else anchor)
        found.update(HTML_ANCHOR.findall(line))
    return found


def links(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and target of every link in a Markdown file."""
    for number, line in prose_lines(path):
        without_code = re.sub(r"`[^`]*`", "", line)
        for pattern in (LINK, DEFINITION, HTML_LINK):
            for target in pattern.findall(without_code):
                yield number, target


def problem(source: Path, target: str, known: set[Path]) -> str | None:
    """Why ``target``, written in ``source``, leads nowhere; None when it is fine."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
        return "write https, not http" if target.startswith("http:") else None
    path_part, _, anchor = unquote(target).partition("#")
    path = (source.parent / path_part).resolve() if path_part else source
    if path not in known:
        return f"{path_part} does not exist"
    if anchor and path.suffix == ".md" and anchor not in anchors(path):
        return f"no heading #{anchor} in {path.relative_to(ROOT)}"
    return None


def main() -> int:
    """Check all; returns the exit code."""
    files = tracked_files()
    known = set(files) | {folder for file in files for folder in file.parents}
    pages = [path for path in files if path.suffix == ".md"]
    count, broken = 0, []
    for page in pages:
        for number, target in links(page):
            count += 1
            if reason := problem(page, target, known):
                broken.append(f"{page.relative_to(ROOT)}:{number}: {reason}")
    print("\n".join([*broken, f"{count} links in {len(pages)} pages, {len(broken)} broken"]))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
