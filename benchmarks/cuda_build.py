"""How long a build for the GPU takes, and an engine's first answer in a new process. Needs a GPU.

    python benchmarks/cuda_build.py                      # resnet50, fp16, batches 1 to 128
    python benchmarks/cuda_build.py --kernels FOLDER     # machine code that was compiled before, where Triton is older

Builds: with nothing remembered (every candidate compiled and timed), again with its timings and kernels, and with the
timings that ship with trine. First answer: from the start of a process to NumPy's answer for one picture; beside it
torch.compile's, without and with what it keeps on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

HERE = Path(__file__).resolve().parent
BUCKETS = (1, 8, 32, 128)

BUILD = """
import json, sys, time
import torch, trine
from cuda_engine import sized_engine
from sweep_models import make_network
from pathlib import Path
model, folder, shipped, kernels, out = sys.argv[1:6]
torch.manual_seed(0)
module, _ = make_network(f"torchvision/{model}")
start = time.perf_counter()
engine = sized_engine(module, Path(folder), kernels or None, shipped == "shipped")
seconds = time.perf_counter() - start
engine.save(out)
halves = 2 * sum(each.numel() for each in module.parameters())
sizes = {"engine_bytes": Path(out).stat().st_size, "fp16_weight_bytes": halves}
print("RESULT " + json.dumps({"seconds": round(seconds, 1), "stages": engine.manifest.build["stages"], **sizes}))
"""

FIRST = """
import json, sys, time
import numpy as np
import trine
imported = time.perf_counter()
engine = trine.load(sys.argv[1])
loaded = time.perf_counter()
answer = engine(np.zeros((1, 3, 224, 224), np.float32))
done = time.perf_counter()
modules = [name for name in ("torch", "triton", "onnx") if name in sys.modules]
print("RESULT " + json.dumps({"load": loaded - imported, "first_call": done - loaded, "imported": modules}))
"""

COMPILED = """
import json, sys, time
import torch, torchvision
import torch._inductor.config
torch._inductor.config.freezing = True
imported = time.perf_counter()
module = torchvision.models.get_model(sys.argv[1], weights=None).eval().cuda().half()
module = torch.compile(module.to(memory_format=torch.channels_last), mode="reduce-overhead")
loaded = time.perf_counter()
with torch.no_grad():
    x = torch.zeros(1, 3, 224, 224, device="cuda", dtype=torch.float16)
    module(x.to(memory_format=torch.channels_last)).cpu()
done = time.perf_counter()
print("RESULT " + json.dumps({"load": loaded - imported, "first_call": done - loaded}))
"""


def in_process(program: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """What ``program`` prints, and ``wall``: seconds from starting it to its end. Raises RuntimeError when it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)]), **environment},
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - start
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not found:
        raise RuntimeError(f"exit status {done.returncode}:\n{done.stderr[-3000:]}")
    return {**json.loads(found[-1][7:]), "wall": round(wall, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--kernels", default="", help="a folder of compiled kernels for the build with timings")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("trine", "torch.compile"), help="the other's results stay in the file")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "cuda_build.json")
    args = parser.parse_args()
    from cuda_peers import gpu_and_versions

    kept = json.loads(args.out.read_text()) if args.only and args.out.exists() else {}
    results: dict[str, Any] = {**kept, **gpu_and_versions(), "model": args.model, "buckets": BUCKETS}

    def keep(name: str, value: Any) -> None:
        results[name] = value
        results.setdefault("dates", {})[name] = results["date"]
        print(name, value, flush=True)
        args.out.write_text(json.dumps(results, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        if args.only != "torch.compile":
            first, second = str(Path(folder) / "tuned.trine"), str(Path(folder) / "warm.trine")
            keep("trine_triton", version("triton"))
            kernels = folder + "/kernels"
            # Triton remembers too: neither build is to find what another one compiled.
            for name, shipped, build in (
                ("tuned", "fresh", (folder, "fresh", kernels, first)),
                ("tuned_again", "fresh", (folder, "fresh", kernels, first)),
                ("shipped_timings", "shipped", (folder + "/none", "shipped", args.kernels, second)),
            ):
                keep(name, in_process(BUILD, args.model, *build, TRITON_CACHE_DIR=f"{folder}/triton {shipped}"))
            keep("trine_first_answer", [in_process(FIRST, second) for _ in range(args.rounds)])
        if args.only != "trine":
            cache = {"TORCHINDUCTOR_CACHE_DIR": folder + "/inductor", "TRITON_CACHE_DIR": folder + "/triton"}
            keep("compile_first_answer", in_process(COMPILED, args.model, **cache))
            keep("compile_first_answer_cached", [in_process(COMPILED, args.model, **cache) for _ in range(2)])


if __name__ == "__main__":
    main()
