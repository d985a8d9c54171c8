"""Import, build and check every torchvision classifier and the smallest model of every timm family.

    python benchmarks/sweep_import.py                    # all; resumes where it stopped
    python benchmarks/sweep_import.py --only timm/ --jobs 2
    python benchmarks/sweep_import.py --retry            # those that failed, again

Each network gets a process of its own, with limits on time and memory. The engine, built for batches 1 to 4, answers a
batch of 3, which neither import nor verification saw, and is compared with PyTorch eager: the relative error
max|got - want| / max|want| must be at most 1e-4.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

from machine import RESULTS
from sweep_runs import leaves, run_sweep

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
    for got, expected in zip(leaves(engine(unseen)), leaves(want), strict=True):
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


if __name__ == "__main__":
    run_sweep(str(__doc__), Path(__file__), RESULT, check_one, {"limit": LIMIT})
