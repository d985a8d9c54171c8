"""Relative errors of converted modules: trine's torch2trt, and NVIDIA's own converters over trine, against eager.

    python benchmarks/torch2trt_errors.py CHECKOUT           # a clone of NVIDIA-AI-IOT/torch2trt

Twenty operators behind a convolution, and ten of torchvision's networks with random weights; the example's shape, other
values. Writes benchmarks/results/torch2trt_errors.json, from which docs/compat-torch2trt.md has its table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import RESULTS, write_results
from rich.console import Console
from rich.progress import track

HERE = Path(__file__).resolve().parent
NETWORKS = (
    *("alexnet", "squeezenet1_1", "resnet18", "mobilenet_v2", "mobilenet_v3_small"),
    *("shufflenet_v2_x0_5", "mnasnet0_5", "densenet121", "efficientnet_b0", "regnet_x_400mf"),
)


def operators() -> dict[str, Callable[[Any], Any]]:
    """By name, functions of a (1, 8, 16, 16) tensor.

    Each looks its function up when it is called: torch2trt converts by putting others in their places.
    """
    import torch
    from torch.nn import functional

    return {
        "relu6": lambda x: functional.relu6(x),
        "hardswish": lambda x: functional.hardswish(x),
        "hardtanh": lambda x: functional.hardtanh(x, -1.0, 2.0),
        "mish": lambda x: functional.mish(x),
        "gelu": lambda x: functional.gelu(x),
        "silu": lambda x: functional.silu(x),
        "softmax": lambda x: functional.softmax(x, dim=1),
        "log_softmax": lambda x: functional.log_softmax(x, dim=1),
        "group_norm": lambda x: functional.group_norm(x, 4),
        "layer_norm": lambda x: functional.layer_norm(x, (16, 16)),
        "instance_norm": lambda x: functional.instance_norm(x),
        "avg_pool2d": lambda x: functional.avg_pool2d(x, 3, 2, 1),
        "max_pool2d": lambda x: functional.max_pool2d(x, 3, 2, 1),
        "adaptive_avg_pool2d": lambda x: functional.adaptive_avg_pool2d(x, 4),
        "interpolate": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
        "pixel_shuffle": lambda x: functional.pixel_shuffle(x, 2),
        "cat": lambda x: torch.cat([x, x * 2], 1),
        "var": lambda x: x.var((2, 3)),
        "matmul": lambda x: torch.matmul(x, x.transpose(2, 3)),
        "rsqrt": lambda x: (x * x + 1).rsqrt(),
    }


def modules() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """By name, a module in eval mode and the shape that it takes."""
    import torch
    from models import define_missing_operators

    define_missing_operators()
    import torchvision

    class Behind(torch.nn.Module):
        def __init__(self, function: Callable[[Any], Any]) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.function = function

        def forward(self, x: Any) -> Any:
            return self.function(self.conv(x))

    torch.manual_seed(0)
    found = {name: (Behind(function).eval(), (1, 3, 16, 16)) for name, function in operators().items()}
    for name in NETWORKS:
        found[name] = (torchvision.models.get_model(name, weights=None).eval(), (1, 3, 224, 224))
    return found


def measure(convert: Callable[..., Any], name: str) -> dict[str, Any]:
    """The relative error, max|got - want| / max|want| over answers to inputs other than the example; or why none."""
    import torch

    module, shape = modules()[name]
    torch.manual_seed(1)
    example, x = torch.randn(shape), torch.randn(shape)
    try:
        with torch.no_grad():
            converted = convert(module, [example])
            got, want = converted(x), module(x)
    except Exception as err:  # noqa: BLE001 - whatever a converter does wrong is its result here
        return {"error": f"{type(err).__name__}: {' '.join(str(err).split())[:200]}"}
    if got.shape != want.shape:
        return {"error": f"answers {tuple(got.shape)} where eager gives {tuple(want.shape)}"}
    return {"relative_error": float((got - want).abs().max() / want.abs().max())}


def worker(which: str, name: str) -> None:
    """One conversion, in a process of its own: torch2trt leaves attributes on tensors."""
    if which == "trine":
        from trine.builder import cpu, timing
        from trine.compat.torch2trt import torch2trt as convert

        def quick(*args: Any, **kwargs: Any) -> Any:
            return timing.time_interleaved(*args, **{**kwargs, "seconds": 0.05, "seconds_if_close": 0.05})

        cpu.time_interleaved = quick  # which backend is faster does not matter here
    else:
        from torch2trt_on_cpu import patch

        patch()
        from torch2trt import torch2trt as convert
    print(json.dumps(measure(convert, name)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a clone of NVIDIA-AI-IOT/torch2trt")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker)
        return 0
    checkout = options.checkout.resolve()
    if not (checkout / "torch2trt" / "torch2trt.py").is_file():
        print(f"error: {checkout} is no checkout of torch2trt", file=sys.stderr)
        return 2
    given = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*map(str, (HERE, HERE.parent / "src", checkout)), *given])
    }
    rows: dict[str, dict[str, Any]] = {}
    names = [*operators(), *NETWORKS]
    for name in track(names, "converting", console=Console(stderr=True)):
        rows[name] = {}
        for which in ("trine", "torch2trt"):
            command = [sys.executable, "-W", "ignore", __file__, str(checkout), "--worker", which, name]
            with tempfile.TemporaryDirectory() as folder:
                done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            line = done.stdout.strip().splitlines()[-1:] or [""]
            failed = {"error": done.stderr.strip()[-200:]}
            rows[name][which] = json.loads(line[0]) if line[0].startswith("{") else failed
    revision = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    write_results(RESULTS / "torch2trt_errors.json", {"revision": revision or None, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
