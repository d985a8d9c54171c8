"""Writes the tables of README.md and docs/ from the JSON files in benchmarks/results.

    python benchmarks/tables.py            # rewrite the tables
    python benchmarks/tables.py --check    # say which are out of date, and exit with 1 if any is

A table stands between ``<!-- table:NAME -->`` and ``<!-- /table -->``. Names that are not in ``TABLES`` are other
scripts', and left alone; so is a table whose results have not been measured yet.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from table_summary import summary
from tables_of_coverage import coverage, coverage_models, cuda_coverage
from tables_of_programs import nvidia_samples, tensorrt_build, tensorrt_verdicts, torch2trt_errors, torch2trt_suite
from tables_of_speed import call_overhead, cold_start, cpu_peers, cuda_build, cuda_peers, cuda_sizes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table:([\w-]+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        fresh = fill(text)
        if fresh != text:
            stale.append(page.relative_to(ROOT))
            if not args.check:
                page.write_text(fresh, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'tables are out of date; run python benchmarks/tables.py' if args.check else 'rewritten'}")
    return 1 if stale and args.check else 0


def fill(text: str, results: Path = RESULTS) -> str:
    """``text`` with every table that we know and have results for made anew."""

    def table(match: re.Match[str]) -> str:
        make = TABLES.get(match[2])
        made = make(results) if make is not None else None
        return match[0] if made is None else f"{match[1]}{made}\n{match[4]}"

    return BLOCK.sub(table, text)


TABLES: dict[str, Callable[[Path], str | None]] = {
    "summary": summary,
    "cpu-peers": cpu_peers,
    "call-overhead": call_overhead,
    "cold-start": cold_start,
    "cuda-peers": cuda_peers,
    "cuda-build": cuda_build,
    "cuda-sizes": cuda_sizes,
    "tensorrt-build": tensorrt_build,
    "torch2trt-errors": torch2trt_errors,
    "tensorrt-verdicts": tensorrt_verdicts,
    "torch2trt-suite": torch2trt_suite,
    "nvidia-samples": nvidia_samples,
    "coverage": coverage,
    "coverage-models": coverage_models,
    "cuda-coverage": cuda_coverage,
}


if __name__ == "__main__":
    sys.exit(main())
