"""NVIDIA's torch2trt, unmodified, over trine on a CPU: its own tests.

    python benchmarks/torch2trt_suite.py CHECKOUT            # a clone of NVIDIA-AI-IOT/torch2trt
    python benchmarks/torch2trt_suite.py CHECKOUT --fresh    # forget what an interrupted run has done

Writes benchmarks/results/torch2trt_suite.json, from which docs/compat-torch2trt.md has its table.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import RESULTS, write_results

HERE = Path(__file__).resolve().parent

_INT8 = "INT8 is computed where it is asked for; the test wants 1e-3, as of layers that are left in fp32"
_SDPA = "it has no converter for scaled_dot_product_attention, whose answers become a constant of another rank"
# Of tests that fail: the reason, found by reading the test and its converter, and whose it is.
KNOWN = {
    "test_iadd": (
        "the test",
        "its module adds into its own input, which the test then compares: the engine gets the input changed",
    ),
    "test_conv_transpose": ("torch2trt", "its converter leaves the dilation out"),
    "test_floordiv_scalar": ("torch2trt", "its converter rounds to zero; PyTorch rounds down since 1.13"),
    "test_pad": ("torch2trt", "its converter pads the last two axes, whatever it is asked for"),
    "test_dynamic_shape_conv2d_onnx": (
        "torch2trt",
        "it gives dynamic_axes in a form that PyTorch's exporter to ONNX no longer takes since 2.9",
    ),
    "test_narrow": ("torch2trt", "its converter passes a negative start on, which is outside of the tensor"),
    "test_scalar_op": (
        "the test",
        "its module changes its own input, which the test then compares",
    ),
    "test_dataset_calibrator_batch_dataset": ("trine", _INT8),
    "test_dataset_calibrator_list_dataset": ("trine", _INT8),
    "test_tensor_shape_view_static": (
        "trine",
        "batches of 1 to 4 are asked for and the module is for 1: refused at the build, not at the call",
    ),
    "test_maxvit_tiny_rw_224": ("torch2trt", _SDPA),
    "test_maxvit_rmlp_small_rw_224": ("torch2trt", _SDPA),
    "test_log_softmax": (
        "torch2trt",
        "its converter sets no axis, and TensorRT's default, the third from the end, is the batch of a matrix",
    ),
}


def run(checkout: Path, results: Path, selected: list[str]) -> None:
    """All tests in a process of their own, results line by line."""
    given = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    environment = os.environ | {
        "TORCH2TRT_RESULTS": str(results),
        "PYTHONPATH": os.pathsep.join([*map(str, (HERE, HERE.parent / "src", checkout)), *given]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-p", "torch2trt_on_cpu", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(checkout), *selected]
    subprocess.run(command, cwd=checkout, env=environment, check=False)


def verdict(line: dict[str, Any]) -> dict[str, Any]:
    """A failing test's line with whose fault it is, where that has been found out."""
    name = line["test"].split("::")[-1].split("[")[0]
    fault, reason = KNOWN.get(name, ("unknown", ""))
    return line if line["outcome"] == "passed" else {**line, "fault": fault, "reason": reason}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a clone of NVIDIA-AI-IOT/torch2trt")
    parser.add_argument("tests", nargs="*", default=["tests"], help="some of its tests only; nothing is written then")
    parser.add_argument("--fresh", action="store_true", help="run again what an earlier, interrupted run has done")
    options = parser.parse_args()
    if not (options.checkout / "torch2trt" / "torch2trt.py").is_file():
        print(f"error: {options.checkout} is no checkout of torch2trt", file=sys.stderr)
        return 2
    checkout = options.checkout.resolve()
    lines = Path(tempfile.gettempdir()) / "trine-torch2trt-suite.jsonl"
    if options.fresh:
        lines.unlink(missing_ok=True)
    collected = lines.with_suffix(".collected")
    collected.unlink(missing_ok=True)
    run(checkout, lines, options.tests)
    found = [verdict(json.loads(line)) for line in lines.read_text().splitlines()]
    counts = collections.Counter(line["outcome"] for line in found)
    print(dict(counts), "of", len(found))
    for line in found:
        if line["outcome"] != "passed":
            print(line["test"], line["fault"], line["error"][:200].replace("\n", " "))
    if options.tests == ["tests"]:
        if not collected.exists() or int(collected.read_text()) != len(found):
            print("error: not every test has a result; nothing is written. Run it again to go on", file=sys.stderr)
            return 1
        revision = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        not_passed = [line for line in found if line["outcome"] != "passed"]
        results = {
            "revision": revision or None,
            "tests": len(found),
            "outcomes": dict(counts),
            "not_passed": not_passed,
        }
        write_results(RESULTS / "torch2trt_suite.json", results)
        lines.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
