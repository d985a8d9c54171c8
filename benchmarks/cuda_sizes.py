"""How large engines for NVIDIA GPUs are, and their activations: for sm_90 in fp16, buckets for 1, 8, 32 and 128 rows.

    python benchmarks/cuda_sizes.py [--kernel-cache FOLDER]

It needs no GPU. torchvision's networks with random weights. Writes benchmarks/results/cuda_sizes.json, from which
docs/cuda.md has its table.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import RESULTS, write_results
from models import make_model

import trine
from trine.backends.cuda.lowering import lower
from trine.backends.cuda.memory_plan import plan_memory
from trine.engine.inspector import inspect_engine

NETWORKS = (
    *("resnet50", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16"),
    *("alexnet", "densenet121", "convnext_tiny", "swin_t"),
)
BUCKETS = (1, 8, 32, 128)


def measure(name: str, kernel_cache: str | None) -> dict[str, Any]:
    """A row of the table."""
    import torch

    model = make_model(name)
    started = time.perf_counter()
    engine = trine.build(
        model,
        (torch.randn(1, 3, 224, 224),),
        batch=(1, 32, 128),
        buckets=BUCKETS,
        target="sm_90",
        precision="fp16",
        verify=False,
        kernel_cache=kernel_cache,
    )
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.trine"
        engine.save(path)
        file_bytes = path.stat().st_size
    sizes, (plan,) = inspect_engine(engine)["sizes"], inspect_engine(engine)["cuda"]
    rows = BUCKETS[-1]
    lowered = lower(engine.graph, rows, engine.manifest.inputs, engine.manifest.outputs, "fp16")
    return {
        "network": name,
        "fp16_weight_bytes": 2 * sum(each.numel() for each in model.parameters()),
        "file_bytes": file_bytes,
        "graph_bytes": sizes["graph_bytes"] + sizes["weight_bytes"],
        "plan_bytes": sizes["plan_bytes"]["cuda_sm_90"],
        "kernels": plan["kernels"],
        "kernel_bytes": plan["kernel_bytes"],
        "arena_bytes": plan["buckets"][-1]["arena_bytes"],  # scratch memory of kernels included
        "live_bytes": plan_memory(lowered.groups).live_bytes,
        "build_seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel-cache", help="a folder of machine code compiled before")
    options = parser.parse_args()
    rows = []
    for name in NETWORKS:
        rows.append(measure(name, options.kernel_cache))
        print(name, round(rows[-1]["file_bytes"] / rows[-1]["fp16_weight_bytes"], 3), rows[-1], flush=True)
        gc.collect()
    what = {"target": "sm_90", "precision": "fp16", "buckets": BUCKETS}
    write_results(RESULTS / "cuda_sizes.json", {**what, "rows": rows})


if __name__ == "__main__":
    main()
