"""Runs a check over all networks of the sweep: one process each, with limits on time and memory; resumes."""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import logging
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from machine import RESULTS, describe

__all__ = ["leaves", "run_sweep"]

CheckOne = Callable[[str, int], dict[str, Any]]


def leaves(value: Any) -> list[Any]:
    """The tensors of a nested output, in order; fields for dataclasses and named tuples."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if value is None:
        return []
    children = value.values() if isinstance(value, dict) else value
    return [leaf for child in children for leaf in leaves(child)]


def _worker(check_one: CheckOne, name: str, threads: int) -> None:
    """Print the result as the last line."""
    logging.disable(logging.WARNING)
    try:
        result = check_one(name, threads)
    except Exception as err:  # noqa: BLE001 - whatever a model does is that model's result
        said = re.sub(r"\S*site-packages/", "", str(err).strip())  # where a library lies is nobody's business
        result = {"passed": False, "reason": f"{type(err).__name__}: {said[:700]}"}
    print(json.dumps(result))


def _in_process(script: Path, name: str, threads: int, timeout: int, memory_gib: int) -> dict[str, Any]:
    """The result of one network, whatever becomes of its process."""

    def limit_memory() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_gib << 30, memory_gib << 30))

    command = [sys.executable, "-W", "ignore", str(script), "--worker", name, "--threads", str(threads)]
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


def run_sweep(description: str, script: Path, result_file: Path, check_one: CheckOne, about: Mapping[str, Any]) -> None:
    """The command line of ``script``: check networks in processes that run it again, and write ``result_file``.

    ``check_one(name, threads)`` gives a network's result, "passed", and "relative_error" or "reason" in it. ``about``
    is written beside the results.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="only names that contain this; several separated by commas")
    parser.add_argument("--retry", action="store_true", help="run those that failed again")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each job")
    parser.add_argument("--timeout", type=int, default=1500, help="seconds for each network")
    parser.add_argument("--memory", type=int, default=20, help="GiB for each network")
    args = parser.parse_args()
    if args.worker:
        _worker(check_one, args.worker, args.threads)
        return
    from sweep_models import network_names

    results: dict[str, Any] = json.loads(result_file.read_text())["results"] if result_file.exists() else {}
    parts = args.only.split(",")
    names = [name for name in network_names() if any(part in name for part in parts)]
    todo = [name for name in names if name not in results or (args.retry and not results[name]["passed"])]
    print(f"{len(names)} networks, {len(todo)} to do", flush=True)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(_in_process, script, n, args.threads, args.timeout, args.memory): n for n in todo}
        for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
            name, result = futures[future], future.result()
            if result_file.exists():  # another run may have added to it
                results = json.loads(result_file.read_text())["results"]
            results[name] = result
            verdict = f"{result['relative_error']:.1e}" if result["passed"] else f"FAILED {result['reason'][:200]}"
            print(f"[{number}/{len(todo)}] {name} {result.get('total_seconds')} s {verdict}", flush=True)
            RESULTS.mkdir(exist_ok=True)
            content = {**describe(), **about, "results": dict(sorted(results.items()))}
            result_file.with_suffix(".part").write_text(json.dumps(content, indent=1) + "\n")
            result_file.with_suffix(".part").replace(result_file)
