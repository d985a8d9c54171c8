"""trine beside PyTorch on an NVIDIA GPU: fp16, 224 x 224, GPU time of one batch. Needs a GPU.

    python benchmarks/cuda_peers.py                        # every model, batches 1, 8, 32 and 128
    python benchmarks/cuda_peers.py --models resnet50 --batches 1,128 --max-autotune
    python benchmarks/cuda_peers.py --models resnet50 --merge   # other models' cells stay in the file
    python benchmarks/cuda_peers.py --peers-only           # fills torch.compile's cache, shows the peers

Each model has a process of its own. Its contenders take turns: trine; PyTorch eager captured in a CUDA graph;
torch.compile in mode reduce-overhead with freezing. PyTorch's models and inputs are fp16 and channels-last; trine's
engine takes fp32 NCHW, and its time includes the conversion. Each call has the next of several input sets, so that
nobody finds its input in the L2 cache. Times are CUDA events around one call, after a call that is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from merged_cells import kept_cells

from trine.backends.cuda.device_timer import gpu_for_oneself

MODELS = (
    "resnet50",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "vit_b_16",
    "alexnet",
    "densenet121",
    "convnext_tiny",
    "swin_t",
)
BATCHES = (1, 8, 32, 128)
SETS = 4
ROUNDS = 12
TURN_MS = 25.0
PATIENCE_S = 900


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile, smallest, and how many; milliseconds."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        "median_ms": round(statistics.median(ordered), 5),
        "p10_ms": round(ordered[round(last * 0.1)], 5),
        "p90_ms": round(ordered[round(last * 0.9)], 5),
        "min_ms": round(ordered[0], 5),
        "calls": len(ordered),
    }


def interleave(contenders: dict[str, Callable[[int], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Every contender in turn; a turn is as many calls as take TURN_MS, timed one by one with events."""
    import torch

    samples: dict[str, list[float]] = {name: [] for name in contenders}
    calls = {}
    for name, call in contenders.items():
        for index in range(6):
            call(index % SETS)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for index in range(4):
            call(index % SETS)
        torch.cuda.synchronize()
        calls[name] = max(4, min(200, int(TURN_MS / ((time.perf_counter() - start) / 4 * 1e3))))
    for turn in range(rounds):
        names = list(contenders)
        for position in range(len(names)):
            name = names[(position + turn) % len(names)]
            call = contenders[name]
            events = [
                (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls[name])
            ]
            call(turn % SETS)
            torch.cuda.synchronize()
            for index, (before, after) in enumerate(events):
                before.record()
                call((turn + 1 + index) % SETS)
                after.record()
            torch.cuda.synchronize()
            samples[name] += [before.elapsed_time(after) for before, after in events]
    return {name: spread(each) for name, each in samples.items()}


def eager_graphs(model: Any, inputs: Sequence[Any]) -> Callable[[int], object]:
    """The model captured in a CUDA graph for each input set, in one memory pool."""
    import torch

    stream = torch.cuda.Stream()
    # Alone: here cuDNN times its algorithms, for torch.compile's convolutions too.
    with gpu_for_oneself(0), torch.cuda.stream(stream), torch.no_grad():
        for x in inputs[:2]:
            model(x)
        torch.cuda.synchronize()
    graphs, pool = [], torch.cuda.graph_pool_handle()
    for x in inputs:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool), torch.no_grad():
            graph.output = model(x)
        graphs.append(graph)
    return lambda index: graphs[index].replay()


def compiled(model: Any, inputs: Sequence[Any], mode: str) -> Callable[[int], object]:
    """torch.compile with freezing. As for any caller whose input moves, its CUDA graph copies the input first."""
    import torch
    import torch._dynamo.config
    import torch._inductor.config

    torch._inductor.config.freezing = True
    torch._dynamo.config.recompile_limit = 64
    fast = torch.compile(model, mode=mode, dynamic=False)

    def call(index: int) -> object:
        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            return fast(inputs[index])

    for index in range(2 * SETS):
        call(index % SETS)
    torch.cuda.synchronize()
    return call


def measure(name: str, batches: Sequence[int], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The row of a table: a cell for each batch. In a process that has a GPU."""
    import torch
    from sweep_models import make_network

    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    module, _ = make_network(f"torchvision/{name}")
    engine, build = None, None
    if not args.peers_only:
        from cuda_engine import built_engine

        engine, build = built_engine(module, batches, args.timing_cache, args.kernels, args.quick)
    # Models are prepared side by side, and measured one after another.
    prepared = [_prepared(name, batch, args, module, engine) for batch in batches]
    for each in prepared if engine is not None and not args.trine_only else ():
        cell, contenders = next(each)
        with gpu_for_oneself(0):
            yield {**cell, "preliminary": True, "times": interleave(contenders, 2)}
    cells = [list(each)[-1] for each in prepared]
    _wait_for_others(args)
    with gpu_for_oneself(0):
        for cell, contenders in cells:
            cell["build"] = build if cell["batch"] == batches[0] else None
            cell["times"] = interleave(contenders, args.rounds)
            yield cell


def _wait_for_others(args: argparse.Namespace) -> None:
    """Until every model's process is prepared or has failed: preparing takes all cores, and measuring needs one."""
    if args.ready is None:
        return
    (args.ready / args.worker).touch()
    end = args.started + args.patience
    while len(list(args.ready.iterdir())) < len(args.models.split(",")) and time.time() < end:
        time.sleep(0.2)


def _prepared(
    name: str, batch: int, args: argparse.Namespace, module: Any, engine: Any
) -> Iterator[tuple[dict[str, Any], dict[str, Callable[[int], object]]]]:
    """A cell without times, and its contenders, compiled and captured; first with trine alone, if it takes part."""
    import copy

    import torch

    peer = copy.deepcopy(module).cuda().half().to(memory_format=torch.channels_last)
    exact = copy.deepcopy(module).cuda()
    pictures = [torch.randn(batch, 3, 224, 224, device="cuda") for _ in range(SETS)]
    half = [x.half().contiguous(memory_format=torch.channels_last) for x in pictures]
    cell: dict[str, Any] = {"model": name, "batch": batch}
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        wanted = exact(pictures[0]).float()
    del exact
    torch.cuda.empty_cache()  # eight processes share the device's memory
    contenders: dict[str, Callable[[int], object]] = {}
    if engine is not None:
        contenders["trine"] = call = _trine(engine, pictures, wanted.shape)
        cell["trine_relative_error"] = _error(call(0)[engine.outputs[0].name], wanted)
        yield cell, dict(contenders)
    if not args.trine_only:
        contenders["eager, CUDA graph"] = eager_graphs(peer, half)
        with torch.no_grad():
            cell["eager_relative_error"] = _error(peer(half[0]).float(), wanted)
        start = time.perf_counter()
        try:
            contenders["torch.compile reduce-overhead"] = fast = compiled(peer, half, "reduce-overhead")
            cell["compile_relative_error"] = _error(fast(0).float(), wanted)
        except RuntimeError as err:
            cell["compile_failed"] = f"{type(err).__name__}: {err}"[:500]
        cell["compile_seconds"] = round(time.perf_counter() - start, 1)
        if args.max_autotune and name == "resnet50" and batch in (1, 128):
            contenders["torch.compile max-autotune"] = compiled(peer, half, "max-autotune")
    yield cell, contenders


def _error(got: Any, wanted: Any) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


def _trine(engine: Any, pictures: Sequence[Any], shape: Sequence[int]) -> Callable[[int], Any]:
    """Calls of the engine on device memory, on the current stream."""
    import torch

    context = engine.create_execution_context()
    name, answer = engine.inputs[0].name, engine.outputs[0].name
    outputs = [{answer: torch.full(tuple(shape), torch.nan, device="cuda")} for _ in pictures]
    return lambda index: context.execute_async({name: pictures[index]}, outputs[index])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peers-only", action="store_true")
    parser.add_argument("--trine-only", action="store_true")
    parser.add_argument("--max-autotune", action="store_true")
    parser.add_argument("--timing-cache", type=Path, default=None)
    parser.add_argument("--kernels", type=Path, default=None, help="a folder of compiled kernels, read and written")
    parser.add_argument("--quick", action="store_true", help="time only kernels that need not be compiled")
    parser.add_argument("--jobs", type=int, default=1, help="models that are prepared at once")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cuda_peers.json")
    parser.add_argument("--merge", action="store_true", help="keep the cells that the file has of other models")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds from the start to the first timing")
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--ready", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    batches = [int(batch) for batch in args.batches.split(",")]
    if args.worker:
        for cell in measure(args.worker, batches, args):
            print("RESULT " + json.dumps(cell), flush=True)
        return
    run_all(args)


def run_all(args: argparse.Namespace) -> None:
    """A process for each model; its cells, or what went wrong, go into the file as they come."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    cells: list[dict[str, Any]] = []
    preliminary: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    lock = threading.Lock()
    machine = gpu_and_versions()
    order = {name: index for index, name in enumerate(args.models.split(","))}
    kept = kept_cells(args.out, machine, order) if args.merge else []
    places = {name: index for index, name in enumerate(dict.fromkeys([*MODELS, *order, *(c["model"] for c in kept)]))}

    def write() -> None:
        everything = sorted([*kept, *cells], key=lambda cell: (places[cell["model"]], cell["batch"]))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        missing = [each for each in preliminary if _place(each) not in {_place(cell) for cell in cells}]
        results = {**machine, "cells": everything, "failures": failures, "without peers": missing}
        args.out.write_text(json.dumps(results, indent=1) + "\n")

    def one(name: str) -> None:
        command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--worker", name]
        command += ["--started", str(args.started)]
        if args.jobs >= len(order):  # with fewer, some would wait for those that are not begun
            command += ["--ready", str(ready)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stderr is not None
        complaints: list[str] = []
        listener = threading.Thread(target=lambda: complaints.extend(process.stderr), daemon=True)  # type: ignore[arg-type]
        listener.start()
        for line in process.stdout:
            if not line.startswith("RESULT "):
                continue
            cell = json.loads(line[7:])
            times = "  ".join(f"{who} {each['median_ms']:.4f}" for who, each in cell["times"].items())
            with lock:
                print(f"{name:20} {cell['batch']:4}  {times}  {cell.get('trine_relative_error', '')}", flush=True)
                (cells if not cell.pop("preliminary", False) else preliminary).append(cell)
                write()
        failed = process.wait()
        (ready / name).touch()
        if failed:
            listener.join(5)
            with lock:
                failures[name] = "".join(complaints[-12:])
                print(f"{name} FAILED\n{failures[name]}", flush=True)
                write()

    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder)
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(one, order))


def _place(cell: dict[str, Any]) -> tuple[str, int]:
    return cell["model"], cell["batch"]


def gpu_and_versions() -> dict[str, Any]:
    """What this was measured on, and when."""
    import datetime
    from importlib import metadata

    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": {"gpu": properties.name, "multiprocessors": properties.multi_processor_count},
        "versions": {
            **{name: metadata.version(name) for name in ("torch", "torchvision", "triton", "numpy")},
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
    }


if __name__ == "__main__":
    main()
