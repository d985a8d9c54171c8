"""Damage engine files in many ways and check that reading one only ever raises EngineFormatError.

    python benchmarks/fuzz_engine_file.py                      100,000 files, writes results/fuzz_engine_file.json
    python benchmarks/fuzz_engine_file.py --count 2000 --seed 7 --out /tmp/fuzz.json

Two mutators (fuzz_mutators.py). "bytes" changes a sound file like a bad disk or network would: every such file must be
refused, and a flipped bit must be found in the section that it is in. "structure" changes what the file says
and then makes all checksums right again, as an attacker would: a file that is still legal may load, and must
then survive being written and read again.
Every case is timed and its memory traced. Exit code 1 if a case breaks a rule; its number and seed are printed.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path

from fuzz_mutators import Case, mutate_bytes, mutate_structure, sample_engine
from machine import RESULTS, write_results

from trine.engine.format import EngineContents, engine_to_bytes, read_engine
from trine.errors import ConfigError, EngineFormatError

MEMORY_SLACK = 64 * 10**6  # reading may take the file's size plus this
CASE_SECONDS = 10
BY_PATH = 10  # every tenth case is read from a file, the others from memory


class Hang(BaseException):
    """A case took longer than CASE_SECONDS. Not an Exception, so that nothing under test can catch it."""


def read(case: Case, path: Path | None) -> EngineContents:
    """Read the mutated file: from disk if there is a path, or from memory."""
    if path is None:
        return read_engine(case.data)
    path.write_bytes(case.data)
    return read_engine(path)


def run_case(case: Case, original: bytes, path: Path | None) -> tuple[str, str | None]:
    """("refused: header", None), or with the rule that was broken in place of None."""
    try:
        contents = read(case, path)
    except EngineFormatError as err:
        if case.data == original:
            return f"refused: {err.section}", f"a sound file was refused: {err}"
        if case.sections and err.section not in case.sections:
            return f"refused: {err.section}", f"wanted one of {case.sections} to be named: {err}"
        return f"refused: {err.section}", None
    except Hang:
        return "hang", f"more than {CASE_SECONDS} s"
    except Exception as err:  # noqa: BLE001 (any other exception is what this looks for)
        return f"raised {type(err).__name__}", repr(err)[:200]
    with contents:
        if case.data == original:
            return "loaded: unchanged", None
        if case.kind.startswith("bytes"):
            return "loaded: changed", "a changed file was accepted"
        try:
            again = read_engine(engine_to_bytes(contents.manifest, contents.graph, contents.plans))
        except (ConfigError, EngineFormatError) as err:
            return "loaded: legal", f"loaded, but could not be written and read again: {err}"
        with again:
            same = again.manifest == contents.manifest and again.graph.model == contents.graph.model
        return "loaded: legal", None if same else "changed by being written and read again"


def fuzz(count: int, seed: int) -> dict[str, object]:
    """Run ``count`` cases and return the figures; "broken" lists at most 20 cases that broke a rule."""
    original = sample_engine()
    outcomes: dict[str, Counter[str]] = {"bytes": Counter(), "structure": Counter()}
    kinds: Counter[str] = Counter()
    broken: list[str] = []
    slowest = most_memory = 0.0
    largest = 0

    def on_alarm(signum: int, frame: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, on_alarm)
    tracemalloc.start()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            rng = random.Random(f"{seed}/{number}")
            mutate = mutate_bytes if number % 2 else mutate_structure
            case = mutate(original, rng)
            path = Path(folder, "case.trine") if number % BY_PATH < 2 else None
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            begun = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
            outcome, problem = run_case(case, original, path)
            signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, time.perf_counter() - begun)
            extra = tracemalloc.get_traced_memory()[1] - before - len(case.data)
            if extra > MEMORY_SLACK:
                problem = problem or f"took {extra} bytes more than the file's size"
            most_memory = max(most_memory, extra)
            largest = max(largest, len(case.data))
            kinds[case.kind] += 1
            outcomes[case.kind.split(":")[0]][outcome] += 1
            if problem:
                broken.append(f"seed {seed}, case {number}, {case.kind}: {problem}")
                print(broken[-1], file=sys.stderr)
            if number % 10_000 == 9_999:
                print(f"{number + 1} files, {time.perf_counter() - started:.0f} s, {len(broken)} broken", flush=True)
    tracemalloc.stop()
    return {
        "files": count,
        "seed": seed,
        "broken_rules": len(broken),
        "broken": broken[:20],
        "outcomes": {name: dict(sorted(counter.items())) for name, counter in outcomes.items()},
        "mutations": dict(sorted(kinds.items())),
        "original_bytes": len(original),
        "largest_file_bytes": largest,
        "seconds": round(time.perf_counter() - started, 1),
        "slowest_case_seconds": round(slowest, 4),
        "most_memory_above_file_size_bytes": int(most_memory),
        "memory_allowed_above_file_size_bytes": MEMORY_SLACK,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the reading of engine files.")
    parser.add_argument("--count", type=int, default=100_000, help="mutated files (100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "fuzz_engine_file.json")
    options = parser.parse_args()
    result = fuzz(options.count, options.seed)
    write_results(options.out, result)
    print(f"{result['files']} files, {result['broken_rules']} broke a rule, {result['seconds']} s")
    return 1 if result["broken_rules"] else 0


if __name__ == "__main__":
    sys.exit(main())
