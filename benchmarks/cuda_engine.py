"""What the GPU benchmarks build: a torchvision network as an engine, and its groups."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import trine

__all__ = ["built_engine", "lowered_network", "portable", "sized_engine"]


def built_engine(
    module: torch.nn.Module, batches: Sequence[int], timing_cache: Path | None, kernels: Path | None, quick: bool
) -> tuple[Any, dict[str, Any]]:
    """An fp16 engine with a bucket for each of ``batches``, and what the build took and chose."""
    start = time.perf_counter()
    example = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    engine = trine.build(
        module,
        (example,),
        device="cuda",
        precision="fp16",
        batch=(1, max(batches), max(batches)),
        buckets=tuple(batches),
        timing_cache=timing_cache,
        kernel_cache=kernels,
        quick_tuning=quick,
        verify=False,
    )
    return engine, {
        "seconds": round(time.perf_counter() - start, 1),
        "stages": engine.manifest.build["stages"],
        "kernels": len(engine.plan.kernels),
        "buckets": [
            {
                "rows": bucket.rows,
                "launches": len(bucket.launches),
                "early": bucket.early,
                "arena_bytes": bucket.arena_bytes,
                "floor_us": round(sum(group["floor_us"] for group in bucket.groups), 1),
                "groups_us": round(sum(group["latency_us"] or 0.0 for group in bucket.groups), 1),
                "tactics": dict(Counter(group["tactic"] for group in bucket.groups).most_common()),
            }
            for bucket in engine.plan.buckets
        ],
    }


def sized_engine(module: torch.nn.Module, folder: Path, kernels: str | None, shipped: bool) -> Any:
    """An fp16 engine for 1 to 128 pictures, verified; timings are kept in ``folder``. shipped: with those that trine
    brings along, or else every candidate is timed."""
    from trine.backends.cuda import tuning_cache

    if not shipped:
        tuning_cache.SHIPPED = folder / "nothing"
    example = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    return trine.build(
        module,
        (example,),
        device="cuda",
        precision="fp16",
        batch=(1, 128, 128),
        buckets=(1, 8, 32, 128),
        timing_cache=folder / "timings.json",
        kernel_cache=kernels,
    )


def portable(name: str) -> tuple[Any, Any, Any]:
    """A network's portable graph, inputs and outputs, as a build would freeze it."""
    from models import make_model

    from trine.builder.freeze import freeze, tensor_infos
    from trine.importers import import_model
    from trine.passes.pipeline import run_passes

    imported = import_model(make_model(name), (torch.randn(2, 3, 224, 224),))
    run_passes(imported.model)
    inputs, outputs = tensor_infos(imported.model)
    return freeze(imported.model), inputs, outputs


def lowered_network(name: str, batch: int, precision: str) -> Any:
    """Its groups for ``batch`` pictures."""
    from trine.backends.cuda.lowering import lower

    graph, inputs, outputs = portable(name)
    return lower(graph, batch, inputs, outputs, precision)
