"""Which of ONNX's own backend tests TensorRT for RTX's parser takes, beside those that trine runs. Needs no GPU.

    pip install 'trine[tensorrt-rtx]'
    python benchmarks/tensorrt_verdicts.py

The models are those of onnx_backend_suite.py, without the large classifiers; what trine makes of each is read from its
results. A parser's yes says no more than that: nothing is built or run. Each worker process goes on until it dies; the
test that it died of is recorded as a crash. Writes benchmarks/results/tensorrt_verdicts.json.
"""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import RESULTS, write_results
from onnx_backend_cases import all_cases, quiet

from trine.backends.tensorrt.build import parser_verdict
from trine.errors import MissingDependencyError
from trine.runtime.tensorrt.packages import installed_tensorrt


def work(start: int) -> None:
    """A line of JSON on stdout for each test from ``start`` on."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the parser prints to stdout too
    package = installed_tensorrt()
    for name in names()[start:]:
        case = all_cases()[name]
        with quiet():
            model = case.model
            reasons = parser_verdict(package, model.SerializeToString())
        operators = sorted({node.op_type for node in model.graph.node})
        print(json.dumps({"name": name, "operators": operators, "reasons": reasons}), file=lines, flush=True)


def names() -> list[str]:
    return [name for name, case in all_cases().items() if case.kind != "real"]


def collect() -> list[dict[str, Any]]:
    """The verdict on every test."""
    found: list[dict[str, Any]] = []
    total = len(names())
    while len(found) < total:
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", str(len(found))]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        found += [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode and len(found) < total:
            found.append({"name": names()[len(found)], "operators": [], "reasons": ["the parser ended the process"]})
        print(f"{len(found)} of {total}", flush=True)
    return found


def summary(verdicts: list[dict[str, Any]], ours: dict[str, str]) -> dict[str, Any]:
    """How often both, one, and none take a test; and the operators of those that the parser alone refuses."""
    counts: collections.Counter[str] = collections.Counter()
    refused: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()  # by the parser's function
    theirs_only = []
    for verdict in verdicts:
        theirs, passes = not verdict["reasons"], ours[verdict["name"]] in ("pass", "rounding")
        kind = {(True, True): "both", (True, False): "tensorrt", (False, True): "trine"}.get((theirs, passes), "none")
        counts[kind] += 1
        reasons.update(re.findall(r" in (\w+): ", verdict["reasons"][0])[:1] if verdict["reasons"] else ())
        if theirs and not passes:
            theirs_only.append({"name": verdict["name"], "ours": ours[verdict["name"]]})
        if passes and not theirs:
            refused.update(verdict["operators"] if len(verdict["operators"]) == 1 else ())
    return {
        "tests": len(verdicts),
        **{name: counts[name] for name in ("both", "trine", "tensorrt", "none")},
        "reasons": dict(reasons.most_common()),
        "refused_operators": dict(refused.most_common()),
        "tensorrt_only": theirs_only,
    }


def main() -> int:
    if sys.argv[1:2] == ["--worker"]:
        work(int(sys.argv[2]))
        return 0
    try:
        package = installed_tensorrt()
    except MissingDependencyError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    suite = json.loads((RESULTS / "onnx_backend_suite.json").read_text(encoding="utf-8"))["tests"]
    found = summary(collect(), {test["name"]: test["status"] for test in suite})
    print(json.dumps({key: value for key, value in found.items() if isinstance(value, int)}))
    write_results(RESULTS / "tensorrt_verdicts.json", {"package": package.name, "version": package.version, **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
