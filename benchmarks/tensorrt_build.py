"""What TensorRT for RTX makes of trine's graphs: verdict, time, size, layers. It needs no GPU, and runs nothing.

    pip install 'trine[tensorrt-rtx]'
    python benchmarks/tensorrt_build.py

torchvision's networks with random weights, fp16, batch 1 to 8. Writes benchmarks/results/tensorrt_build.json, from
which docs/tensorrt.md has its table.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import Any

from machine import RESULTS, write_results
from models import make_model

import trine
from trine.backends.tensorrt.build import build_tensorrt_plan
from trine.engine.onnx_reader import read_graph
from trine.errors import MissingDependencyError, UnsupportedError
from trine.runtime.tensorrt.packages import TensorRT, installed_tensorrt

NETWORKS = (
    *("resnet18", "resnet50", "mobilenet_v3_large", "efficientnet_b0"),
    *("densenet121", "convnext_tiny", "swin_t", "vit_b_16"),
)


def built(package: TensorRT, name: str) -> dict[str, Any]:
    """A row of the table."""
    import torch

    model = make_model(name)
    weights = sum(each.numel() for each in model.parameters())
    engine = trine.build(model, (torch.randn(1, 3, 224, 224),), batch=(1, 1, 8), verify=False, tactics=("onnxruntime",))
    nodes = read_graph(engine.graph.model).nodes
    started = time.perf_counter()
    try:
        tensors = (*engine.inputs, *engine.outputs)
        plan = build_tensorrt_plan(package, engine.graph, tensors, engine.profile, "fp16")
    except UnsupportedError as err:
        return {"network": name, "parses": False, "reasons": list(err.problems), "nodes": len(nodes)}
    return {
        "network": name,
        "parses": True,
        "seconds": round(time.perf_counter() - started, 1),
        "plan_mb": round(len(plan.data) / 1e6, 1),
        "fp16_weights_mb": round(2 * weights / 1e6, 1),
        "layers": len(plan.layers),
        "nodes": len(nodes),
    }


def main() -> int:
    try:
        package = installed_tensorrt()
    except MissingDependencyError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    rows = []
    for name in NETWORKS:
        rows.append(built(package, name))
        print(rows[-1], flush=True)
        gc.collect()
    write_results(RESULTS / "tensorrt_build.json", {"package": package.name, "version": package.version, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
