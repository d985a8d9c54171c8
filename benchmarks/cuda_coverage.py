"""Lower every torchvision classifier and the smallest model of every timm family for NVIDIA GPUs; no GPU is needed.

    python benchmarks/cuda_coverage.py                    # all; resumes where it stopped
    python benchmarks/cuda_coverage.py --only timm/ --jobs 2
    python benchmarks/cuda_coverage.py --retry            # those that did not pass, again

A network passes when every operator becomes a group that some tactic takes on sm_80 and on sm_90, in fp16, for 1 and
for 3 rows, so that nothing is left to the CPU; and when the groups, executed in NumPy on a poisoned arena at their
places in memory, in fp32, answer a batch of 3 as PyTorch eager does: max|got - want| / max|want| at most 1e-4.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from machine import RESULTS
from sweep_runs import leaves, run_sweep

LIMIT = 1e-4
TARGETS = ("sm_80", "sm_90")
ROWS = (1, 3)
RESULT = RESULTS / "cuda_coverage.json"


def check_one(name: str, threads: int) -> dict[str, Any]:
    """Lower one network, and compare its groups' answers. In a process of its own.

    With the first weights at random; where these do not pass, with such that PyTorch's own answers are steady.
    """
    from trine.errors import TrineError

    try:
        result = _check(name, threads, steady=False)
    except TrineError:  # the import's own comparison with eager
        result = {"passed": False}
    return result if result["passed"] else _check(name, threads, steady=True)


def _check(name: str, threads: int, steady: bool) -> dict[str, Any]:
    import numpy as np
    import torch
    from sweep_models import make_network, pictures

    from trine.backends.cuda.choose import Chooser
    from trine.backends.cuda.cpu_group import CpuGroup
    from trine.backends.cuda.kernel_cache import KernelCache
    from trine.backends.cuda.lower_buckets import lower_buckets
    from trine.backends.cuda.reference_executor import ReferenceExecutor
    from trine.backends.cuda.target import target_named
    from trine.backends.cuda.tuning_cache import TuningCache
    from trine.builder.freeze import freeze, tensor_infos
    from trine.importers import import_model
    from trine.passes.pipeline import run_passes

    torch.set_num_threads(threads)
    network, shape = make_network(name, steady)
    torch.manual_seed(1)
    imported = import_model(network, pictures(2, shape), batch="dynamic")
    run_passes(imported.model)
    inputs, outputs = tensor_infos(imported.model)
    graph = freeze(imported.model)

    start = time.perf_counter()
    on_cpu: dict[str, str] = {}
    groups = 0
    for target in TARGETS:
        cache = TuningCache(None, "", target)
        chooser = Chooser(target=target_named(target), cache=cache, kernel_cache=KernelCache(None), timer=None)
        lowered, refused = lower_buckets(graph, inputs, outputs, ROWS, "fp16", chooser, True, lambda stage: None)
        for each in lowered.values():
            groups = len(each.groups)
            for group in each.groups:
                if isinstance(group, CpuGroup):
                    on_cpu |= {f"{node['op']} {node['name']}": node["reason"] for node in group.part.nodes}
    seconds = time.perf_counter() - start

    unseen = pictures(3, shape)
    with torch.no_grad():
        want = leaves(network(unseen))
    got = ReferenceExecutor(graph, inputs, outputs, "fp32", refused).run([unseen.numpy()], [None] * len(outputs))
    errors = []
    for answer, expected in zip(got, (tensor.double().numpy() for tensor in want), strict=True):
        scale = np.abs(expected).max()
        errors.append(float(np.abs(answer.astype(np.float64) - expected).max() / scale) if scale else 0.0)
    error = max(errors)
    reasons = [f"on the CPU: {node}: {reason}" for node, reason in on_cpu.items()]
    if not error <= LIMIT:
        reasons.append(f"relative error {error:.2g} is above {LIMIT:g}")
    return {
        "passed": not reasons,
        "relative_error": error,
        "on_cpu": on_cpu,
        "groups": groups,
        "lower_seconds": round(seconds, 1),
        "reason": "; ".join(reasons)[:700],
    }


if __name__ == "__main__":
    run_sweep(str(__doc__), Path(__file__), RESULT, check_one, {"limit": LIMIT, "targets": TARGETS, "rows": ROWS})
