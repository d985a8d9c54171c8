"""Runs ONNX's own backend test suite through trine, and writes what became of every test.

    python benchmarks/onnx_backend_suite.py                 # all; resumes where an earlier run stopped
    python benchmarks/onnx_backend_suite.py --fresh         # all, anew
    python benchmarks/onnx_backend_suite.py --again         # those that did not pass last time; the others are kept
    python benchmarks/onnx_backend_suite.py --only softmax  # those whose name contains it; prints, writes nothing

Each test runs in a worker process. A worker that dies (a crash in a backend) costs the one test that it ran, which is
recorded as a crash; the next worker goes on behind it. Writes benchmarks/results/onnx_backend_suite.json and
docs/onnx-coverage.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import RESULTS, write_results
from onnx_backend_cases import KINDS, STATUSES, all_cases, counts, quiet, run_case

ROOT = Path(__file__).resolve().parent.parent
PROGRESS = Path(tempfile.gettempdir()) / f"trine-onnx-backend-suite-{os.getuid() if hasattr(os, 'getuid') else 0}.jsonl"
PAGE = ROOT / "docs" / "onnx-coverage.md"
CASE_SECONDS = 120  # longest that a test may take; then its worker is ended and the test counts as a crash


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="forget an earlier, unfinished run")
    parser.add_argument("--again", action="store_true", help="run those that did not pass in the results file")
    parser.add_argument("--only", default="", help="run the tests whose name contains this")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker)
        return 0
    if args.only:
        with quiet():
            for name, case in all_cases().items():
                if args.only in name:
                    result = run_case(case)
                    print(f"{result['status']:12} {result['seconds']:7.2f} s {result['tactic']:12} {name}")
                    print(
                        f"             {result['reason']}" if result["reason"] else "",
                        end="\n" * bool(result["reason"]),
                    )
        return 0
    if args.fresh or args.again:
        PROGRESS.unlink(missing_ok=True)
    if args.again:
        for test in json.loads((RESULTS / "onnx_backend_suite.json").read_text(encoding="utf-8"))["tests"]:
            if test["status"] == "pass":
                note(test)
    results = run_all()
    summary = counts(results)
    print(", ".join(f"{count} {status}" for status, count in summary.items()))
    write_results(
        RESULTS / "onnx_backend_suite.json",
        {"counts": summary, "tests": sorted(results.values(), key=lambda result: result["name"])},
    )
    PAGE.write_text(
        page(json.loads((RESULTS / "onnx_backend_suite.json").read_text(encoding="utf-8"))), encoding="utf-8"
    )
    PROGRESS.unlink(missing_ok=True)
    return 1 if any(summary.get(status) for status in ("wrong", "error", "crash")) else 0


def run_all() -> dict[str, dict[str, Any]]:
    """Workers one after the other until every case has a result."""
    total = len(all_cases())
    while True:
        results, running = progress()
        if running:  # the last worker died on it
            result = {"name": running, "kind": all_cases()[running].kind, "status": "crash", "reason": "see the log"}
            note({**result, "tactic": "", "seconds": 0.0})
            continue
        print(f"{len(results)} of {total}: {counts(results)}", file=sys.stderr, flush=True)
        if len(results) >= total:
            return results
        command = [sys.executable, __file__, "--worker", str(PROGRESS)]
        with tempfile.TemporaryFile() as log:
            worker = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)
            watch(worker)


def watch(worker: subprocess.Popen[bytes]) -> None:
    """Wait for the worker's end; end it when one case takes too long."""
    seen, since = 0, time.monotonic()
    while True:
        try:
            worker.wait(timeout=5)
        except subprocess.TimeoutExpired:
            size = PROGRESS.stat().st_size if PROGRESS.exists() else 0
            if size != seen:
                seen, since = size, time.monotonic()
            elif time.monotonic() - since > CASE_SECONDS:
                worker.kill()
        else:
            return


def note(entry: dict[str, Any]) -> None:
    """Append one line: a result, or {"running": name}."""
    with PROGRESS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def progress() -> tuple[dict[str, dict[str, Any]], str | None]:
    """The results so far, and the case that was running when the last worker stopped."""
    results: dict[str, dict[str, Any]] = {}
    running = None
    if PROGRESS.exists():
        for line in PROGRESS.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "running" in entry:
                running = entry["running"]
            else:
                results[entry["name"]] = entry
    return results, running if running not in results else None


def work(path: Path) -> None:
    """In a worker: run what has no result yet."""
    assert path == PROGRESS
    logging.disable(logging.CRITICAL)
    done, _ = progress()
    with quiet():
        for name, case in all_cases().items():
            if name not in done:
                note({"running": name})
                note(run_case(case))


def page(results: dict[str, Any]) -> str:
    """docs/onnx-coverage.md: counts by kind, and every test that does not pass, grouped by reason."""
    tests = results["tests"]
    versions = results["versions"]
    used = ", ".join(f"{name} {versions[name]}" for name in ("onnx", "onnxruntime", "openvino"))
    shown = [status for status in STATUSES if any(test["status"] == status for test in tests)]
    lines = [
        "# Coverage of ONNX's own backend tests",
        "",
        "<!-- Written by benchmarks/onnx_backend_suite.py; do not edit. -->",
        "",
        "Every test of `onnx.backend.test` through the whole of trine on the CPU: import, passes, verified build,",
        f"save, load, run, and compare with the outputs that the suite stores, at its own tolerances. {used}; "
        f"{results['hardware']['cpu']}; {results['date']}.",
        "",
        f"**{sum(test['status'] == 'pass' for test in tests):,} of {len(tests):,} pass; "
        f"{sum(test['status'] == 'wrong' for test in tests)} wrong answers.**",
        "",
        "| kind | " + " | ".join(shown) + " | all |",
        "| --- | " + " | ".join("---:" for _ in shown) + " | ---: |",
    ]
    for kind in (*KINDS, "all"):
        chosen = [test for test in tests if kind in (test["kind"], "all")]
        cells = [str(sum(test["status"] == status for test in chosen)) for status in shown]
        lines.append(f"| {kind} | " + " | ".join(cells) + f" | {len(chosen)} |")
    lines += ["", *(f"- **{status}**: {STATUSES[status]}." for status in shown), ""]
    for status in shown:
        if status != "pass":
            lines += [f"## {status.capitalize()}", "", *_reasons([t for t in tests if t["status"] == status]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _reasons(tests: list[dict[str, Any]]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for test in tests:
        by_reason.setdefault(short(test["reason"]), []).append(test["name"].removeprefix("test_"))
    rows = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        "| tests | reason | which |",
        "| ---: | --- | --- |",
        *(f"| {len(names)} | {reason} | {', '.join(sorted(names))} |" for reason, names in rows),
    ]


def short(reason: str) -> str:
    """One line for a table, without what differs from test to test."""
    refusals = re.search(r"openvino fp32: (.*?)onnxruntime fp32: (.*)", reason)
    problems = re.findall(r"problem: \S+ \S+ (.*?)(?= problem:| FAILED)", reason)
    if refusals:
        openvino = re.sub(r"^OpenVINO \S+ refuses the graph: |^failed while running: ", "", refusals[1])
        openvino = re.sub(
            r"FrontEnd API failed with OpConversionFailure: Model wasn't fully converted\. ", "", openvino
        )
        openvino = re.sub(r" To facilitate the conversion.*|Summary: |at src/\S+|Check '.*?' failed ", "", openvino)
        ort = re.sub(r"^.*?\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", refusals[2])
        ort = re.sub(r" node with name.*| \(node:.*|^.*Status Message: ", "", ort)
        reason = f"ONNX Runtime: {_clip(ort)}; OpenVINO: {_clip(openvino)}"
    elif problems:
        reason = "no backend answers as the model does: " + re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", problems[0])
    reason = reason.replace("the ONNX model given as bytes cannot be imported: ", "")
    reason = re.sub(r"^(node|input|output) '\w*': ", "", reason)
    kind = re.match(r"(?:input|output) '\w+' is an? (\w+)", reason)
    if kind:
        reason = f"an input or output is a {kind[1]}; engines take and give tensors".replace("a o", "an o")
    return reason.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")[:300]


def _clip(text: str) -> str:
    return text.strip() if len(text) <= 140 else text[:140].rsplit(" ", 1)[0] + " …"


if __name__ == "__main__":
    sys.exit(main())
