"""Compile, without a GPU, the kernels that a build on a GPU would time: for a machine whose Triton is older.

    python benchmarks/cuda_kernels.py FOLDER                     # those that only a newer Triton compiles, for Hopper
    python benchmarks/cuda_kernels.py FOLDER --tactics attention,norm   # of tactics whose names have one of these words
    python benchmarks/cuda_kernels.py FOLDER --tactics all --models resnet50 --batches 1,128

FOLDER is then what cuda_peers.py and cuda_build.py take as --kernels; with --quick, cuda_peers.py times what is in it.
fp16, 224 x 224, sm_90; what the folder holds already is not compiled again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuda_peers import BATCHES, MODELS

from trine.backends.cuda.choose import Chooser
from trine.backends.cuda.compiler import compile_all
from trine.backends.cuda.kernel_cache import KernelCache, kernel_key
from trine.backends.cuda.lowering import lower
from trine.backends.cuda.registry import all_tactics
from trine.backends.cuda.signature import group_signature
from trine.backends.cuda.target import Target, target_named


def sources(model: str, batches: Sequence[int], target: Target, tactics: Sequence[str]) -> dict[str, Any]:
    """Every kernel, by its key, of the configurations that a build times for the network's groups. tactics: words, one
    of which a tactic's name has; none: all."""
    from cuda_engine import portable

    graph, inputs, outputs = portable(model)
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for rows in batches:
        for group in lower(graph, rows, inputs, outputs, "fp16").groups:
            signature = group_signature(group)
            if signature in seen:
                continue
            seen.add(signature)
            for tactic in all_tactics(True):
                if tactics and not any(word in tactic.name for word in tactics):
                    continue
                if not tactic.supports(group, target):
                    continue
                for configuration in tactic.configurations(group, target)[: Chooser.most]:
                    for launch in tactic.launches(group, configuration, target):
                        found[kernel_key(launch.kernel, target)] = launch.kernel
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--tactics", default="gluon", help="words of their names, or all")
    parser.add_argument("--jobs", type=int, default=None, help="processes that compile")
    args = parser.parse_args()
    target = target_named("sm_90")
    tactics = [] if args.tactics == "all" else args.tactics.split(",")
    cache = KernelCache(args.folder)
    for model in args.models.split(","):
        wanted = sources(model, [int(each) for each in args.batches.split(",")], target, tactics)
        new = {key: source for key, source in wanted.items() if cache.get(key) is None}
        print(f"{model}: {len(wanted)} kernels, {len(new)} to compile", flush=True)
        results = compile_all(new.values(), target, cache, args.jobs)
        failed = {key: reason for key, reason in results.items() if isinstance(reason, str)}
        for key, reason in failed.items():
            print(f"  {new[key].function.fn.__name__}: {reason}", flush=True)
    size = sum(path.stat().st_size for path in args.folder.glob("*.json"))
    print(f"{size / 1e6:.1f} MB in {args.folder}")


if __name__ == "__main__":
    main()
