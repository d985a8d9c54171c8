"""Import, build and check every torchvision classifier and the smallest model of every timm family.

    python benchmarks/sweep_import.py                    # all; resumes where it stopped
    python benchmarks/sweep_import.py --only timm/ --jobs 2
    python benchmarks/sweep_import.py --retry            # those that failed, again

Each network gets a process of its own, with limits on time and memory. The engine, built for batches 1 to 4, answers a
batch of 3, which neither import nor verification saw, and is compared with PyTorch eager: the relative error
max|got - want| / max|want| must be at most 1e-4.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import RESULTS, describe

LIMIT = 1e-4
RESULT = RESULTS / "sweep_import.json"


def check_one(name: str, threads: int) -> dict[str, Any]:
    """Build one network and compare it at an unseen batch size. In a process of its own."""
    import numpy as np
    import torch
    from sweep_models import make_network, pictures

    import trine
    from trine.builder import cpu, timing

    # Both tactics are compiled, run and verified; which one is a little faster does not matter here.
    cpu.time_interleaved = functools.partial(timing.time_interleaved, seconds=0.2, seconds_if_close=0.2)
    torch.set_num_threads(threads)
    network, shape = make_network(name)
    torch.manual_seed(1)
    start = time.perf_counter()
    engine = trine.build(network, pictures(2, shape), batch=(1, 2, 4), threads=threads)
    seconds = time.perf_counter() - start
    unseen = pictures(3, shape)
    with torch.no_grad():
        want = network(unseen)
    errors, spreads = [], []
    for got, expected in zip(_leaves(engine(unseen)), _leaves(want), strict=True):
        expected = expected.double().numpy()
        scale = np.abs(expected).max()
        errors.append(float(np.abs(got.double().numpy() - expected).max() / scale) if scale else 0.0)
        # How far rows differ: an output that is the same for every input would prove nothing.
        spreads.append(float(np.abs(expected - expected[:1]).max() / scale) if scale else 0.0)
    return {
        "passed": max(errors) <= LIMIT,
        "relative_error": max(errors),
        "row_spread": min(spreads),
        "tactic": engine.tactic,
        "parameters": sum(p.numel() for p in network.parameters()),
        "build_seconds": round(seconds, 1),
        "nodes": engine.manifest.build["nodes_after"],
        "reason": "" if max(errors) <= LIMIT else f"relative error {max(errors):.2g} is above {LIMIT:g}",
    }


def _leaves(value: Any) -> list[Any]:
    """The tensors of a nested output, in order; fields for dataclasses and named tuples."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if value is None:
        return []
    children = value.values() if isinstance(value, dict) else value
    return [leaf for child in children for leaf in _leaves(child)]


def worker(name: str, threads: int) -> None:
    """Run ``check_one`` and print its result as the last line."""
    import logging

    logging.disable(logging.WARNING)
    try:
        result = check_one(name, threads)
    except Exception as err:  # noqa: BLE001 - whatever a model does is that model's result
        said = re.sub(r"\S*site-packages/", "", str(err).strip())  # where a library lies is nobody's business
        result = {"passed": False, "reason": f"{type(err).__name__}: {said[:700]}"}
    print(json.dumps(result))


def run_in_process(name: str, threads: int, timeout: int, memory_gib: int) -> dict[str, Any]:
    """The result of one network, whatever becomes of its process."""

    def limit_memory() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_gib << 30, memory_gib << 30))

    command = [sys.executable, "-W", "ignore", __file__, "--worker", name, "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment, preexec_fn=limit_memory
        )
    except subprocess.TimeoutExpired:
        return {"passed": False, "reason": f"took longer than {timeout} s"}
    lines = done.stdout.strip().splitlines()
    try:
        result: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        result = {"passed": False, "reason": f"the process ended with {done.returncode}: {last[:500]}"}
    return {**result, "total_seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="only names that contain this; several separated by commas")
    parser.add_argument("--retry", action="store_true", help="run those that failed again")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each job")
    parser.add_argument("--timeout", type=int, default=1500, help="seconds for each network")
    parser.add_argument("--memory", type=int, default=20, help="GiB for each network")
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.threads)
        return
    from sweep_models import network_names

    results: dict[str, Any] = json.loads(RESULT.read_text())["results"] if RESULT.exists() else {}
    parts = args.only.split(",")
    names = [name for name in network_names() if any(part in name for part in parts)]
    todo = [name for name in names if name not in results or (args.retry and not results[name]["passed"])]
    print(f"{len(names)} networks, {len(todo)} to do", flush=True)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(run_in_process, n, args.threads, args.timeout, args.memory): n for n in todo}
        for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
            name, result = futures[future], future.result()
            if RESULT.exists():  # another run may have added to it
                results = json.loads(RESULT.read_text())["results"]
            results[name] = result
            verdict = f"{result['relative_error']:.1e}" if result["passed"] else f"FAILED {result['reason'][:200]}"
            print(f"[{number}/{len(todo)}] {name} {result.get('total_seconds')} s {verdict}", flush=True)
            RESULTS.mkdir(exist_ok=True)
            content = {**describe(), "limit": LIMIT, "results": dict(sorted(results.items()))}
            RESULT.with_suffix(".part").write_text(json.dumps(content, indent=1) + "\n")
            RESULT.with_suffix(".part").replace(RESULT)


if __name__ == "__main__":
    main()
