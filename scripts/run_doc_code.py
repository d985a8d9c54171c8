"""Executes the Python code in README.md, docs/ and the examples, so that what the pages show is what works.

A page's ```python blocks run in order in one namespace, in a process and an empty folder of their own. What a
page needs but need not show stands in an HTML comment that starts with ``setup``. A block after the comment
``<!-- not executed: REASON -->`` is only compiled. Every ``examples/*/*.py`` runs as a script.

    python scripts/run_doc_code.py                  # everything
    python scripts/run_doc_code.py docs/run.md      # some pages or scripts
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 2
LIMIT_S = 900  # far above what any page needs; a page that hangs is reported and not waited for

BLOCK = re.compile(
    r"^<!--[ ]setup\n(?P<setup>.*?)^-->"
    r"|(?:^<!--[ ]not[ ]executed:[ ](?P<reason>[^\n]+?)[ ]-->\n+)?^```python\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Outcome:
    """What became of one page or script."""

    path: Path
    blocks: int
    seconds: float
    error: str  # empty: it ran


def page_program(path: Path) -> tuple[str, int]:
    """One Python program of a page's blocks, each at its own line number, and how many run."""
    text = path.read_text(encoding="utf-8")
    program: list[str] = []
    executed = 0
    for match in BLOCK.finditer(text):
        name = "setup" if match["setup"] is not None else "code"
        first_line = text.count("\n", 0, match.start(name))
        source = match[name]
        if match["reason"]:
            compile(source, f"{path}:{first_line}", "exec")
            continue
        executed += 1
        program += [""] * (first_line - len(program)) + source.splitlines()
    return "\n".join(program) + "\n", executed


def run(path: Path) -> Outcome:
    """Execute one page or script."""
    started = time.monotonic()
    program, blocks, command = "", 1, [sys.executable, str(path)]
    if path.suffix == ".md":
        try:
            program, blocks = page_program(path)
        except SyntaxError as err:
            return Outcome(path, 0, 0.0, f"{err.filename}: SyntaxError: {err}")
        if not blocks:
            return Outcome(path, 0, 0.0, "")
        read_and_run = f"exec(compile(sys.stdin.read(), {str(path)!r}, 'exec'), {{'__name__': '__main__'}})"
        command = [sys.executable, "-c", f"import sys; {read_and_run}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with tempfile.TemporaryDirectory(prefix="trine-doc-") as folder:
        try:
            result = subprocess.run(
                command,
                input=program,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return Outcome(path, blocks, time.monotonic() - started, f"still running after {LIMIT_S} s")
    error = "" if result.returncode == 0 else f"{result.stdout[-1000:]}{result.stderr[-4000:]}"
    return Outcome(path, blocks, time.monotonic() - started, error)


def default_paths() -> list[Path]:
    """README, every page of docs/, every example and its page."""
    patterns = ("README.md", "docs/**/*.md", "examples/*/*.md", "examples/*/*.py")
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def main(arguments: Sequence[str]) -> int:
    """Run all; returns the exit code."""
    paths = [Path(argument).resolve() for argument in arguments] or default_paths()
    failed = 0
    with ThreadPoolExecutor(PROCESSES) as pool:
        for outcome in pool.map(run, paths):
            name = outcome.path.relative_to(ROOT)
            if outcome.error:
                failed += 1
                print(f"FAILED {name}\n{outcome.error}")
            elif outcome.blocks:
                print(f"ok {name}: {outcome.blocks} executed in {outcome.seconds:.1f} s")
    print(f"{len(paths)} pages and examples, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
