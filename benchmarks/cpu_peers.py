"""trine against plain ONNX Runtime and plain OpenVINO on the CPU, and what a call of trine costs over the
backend's own.

    python benchmarks/cpu_peers.py                                   # everything; about half an hour on two
    cores python benchmarks/cpu_peers.py --models resnet50 --batches 1 --seconds 10 --output /tmp/try.json

Both peers get the ONNX file that PyTorch exports (dynamic batch, its default optimisation); trine gets the
module. All have the same precision and number of threads, take turns in one process, and see the same
rotating random inputs. OpenVINO is tried with its default and its LATENCY hint, and the faster of both and
ONNX Runtime is the peer. A ratio is trine's median over that peer's: below 1, trine is faster.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import interleave
from machine import RESULTS, write_results
from models import SPEED_MODELS, make_model
from peers import Call, export_onnx, onnxruntime_call, openvino_call, openvino_lean_call

import trine
from trine.runtime.cpu.features import usable_cores
from trine.runtime.cpu.openvino_executor import supported_precisions
from trine.verify.metrics import measure

Array = np.ndarray[Any, Any]
INPUTS = 4  # different ones, in rotation
CALL_INPUT = (1, 16)


def main() -> int:
    args = parse_arguments()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            module = make_model(name)
            example = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
            onnx = export_onnx(module, example, Path(folder) / f"{name}.onnx")
            for precision in args.precisions:
                for batch in args.batches:
                    result = compare_speed(name, module, onnx, precision, batch, args)
                    results.append(result)
                    print(line(result), file=sys.stderr, flush=True)
            onnx.unlink()
    overhead = [] if args.no_overhead else measure_overhead(args)
    write_results(
        args.output,
        {
            "threads": args.threads,
            "method": "interleaved turns in one process, medians; ratio: trine over the faster peer",
            "models": results,
            "call_overhead": overhead,
        },
    )
    return 0


def compare_speed(
    name: str, module: torch.nn.Module, onnx: Path, precision: str, batch: int, args: argparse.Namespace
) -> dict[str, Any]:
    """One row of the table: every contender's times at one precision and batch."""
    row: dict[str, Any] = {"model": name, "precision": precision, "batch": batch}
    if precision not in supported_precisions():
        reason = f"this CPU does not compute in {precision}; neither backend would either"
        return {**row, "available": False, "reason": reason}
    rng = np.random.default_rng(batch)
    inputs = [rng.standard_normal((batch, 3, 224, 224)).astype(np.float32) for _ in range(INPUTS)]
    engine = trine.build(
        module,
        (torch.from_numpy(inputs[0]),),
        precision=precision,
        batch=(1, batch, max(batch, 8)),
        threads=args.threads,
        verify=not args.no_verify,
    )
    hint = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision]
    calls: dict[str, Call] = {
        "trine": engine,
        "openvino": openvino_call(onnx, args.threads, hint),
        "openvino latency": openvino_call(onnx, args.threads, hint, "LATENCY"),
    }
    if precision == "fp32":
        calls["onnxruntime"] = onnxruntime_call(onnx, args.threads)
    peers = [peer for peer in calls if peer != "trine"]
    if args.static:
        calls["openvino fixed shape"] = openvino_call(onnx, args.threads, hint, "LATENCY", inputs[0].shape)
    with torch.no_grad():
        want = module(torch.from_numpy(inputs[1])).numpy()
    errors = {peer: measure(np.asarray(call(inputs[1])), want).relative_error for peer, call in calls.items()}
    times = interleave(calls, inputs, seconds=args.seconds)
    best = min(peers, key=lambda peer: times[peer].median_ms)
    tactic = engine.tactic
    engine.close()
    return {
        **row,
        "available": True,
        "tactic": tactic,
        "times": {peer: time.to_json() for peer, time in times.items()},
        "relative_errors": {peer: float(f"{error:.3g}") for peer, error in errors.items()},
        "best_peer": best,
        "ratio": round(times["trine"].median_ms / times[best].median_ms, 4),
    }


def measure_overhead(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What ``engine(x)`` and ``context.execute`` cost over the backend's own Python call, for a tiny model.

    The backend's own call runs the same graph: the engine's, inlined. OpenVINO is called in two ways, and the faster
    counts. Calls take some microseconds, so a turn has hundreds of them.
    """
    torch.manual_seed(0)
    tiny = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).eval()
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(CALL_INPUT).astype(np.float32) for _ in range(INPUTS)]
    found = []
    for tactic in ("openvino", "onnxruntime"):
        engine = trine.build(
            tiny, (torch.from_numpy(inputs[0]),), batch=(1, 1, 8), threads=args.threads, tactics=(tactic,)
        )
        graph = engine.graph.inline()
        own = (
            {
                "backend": openvino_call(graph, args.threads, "f32", "LATENCY"),
                "backend lean": openvino_lean_call(graph, args.threads),
            }
            if tactic == "openvino"
            else {"backend": onnxruntime_call(graph, args.threads)}
        )
        with engine.create_execution_context() as context:
            ours = {"engine(x)": engine, "context.execute": execute_call(context, engine.inputs[0].name)}
            times = interleave({**own, **ours}, inputs, seconds=args.overhead_seconds)
        engine.close()
        base = min(times[call].median_ms for call in own)
        result = {
            "tactic": tactic,
            "times": {call: time.to_json() for call, time in times.items()},
            "added_us": {call: round((times[call].median_ms - base) * 1e3, 2) for call in ours},
        }
        print(f"call overhead, {tactic}: {result['added_us']} us", file=sys.stderr, flush=True)
        found.append(result)
    return found


def execute_call(context: trine.ExecutionContext, name: str) -> Call:
    execute = context.execute
    return lambda x: execute({name: x})


def line(result: dict[str, Any]) -> str:
    """One result for the terminal."""
    head = f"{result['model']:20} {result['precision']} batch {result['batch']:2}"
    if not result["available"]:
        return f"{head}  not available: {result['reason']}"
    times = "  ".join(f"{peer} {time['median_ms']:.2f}" for peer, time in result["times"].items())
    return f"{head}  ratio {result['ratio']:.3f} to {result['best_peer']} ({result['tactic']})  ms: {times}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=SPEED_MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing for each model, precision and batch")
    parser.add_argument("--overhead-seconds", type=float, default=20.0, help="of timing calls of a tiny model")
    parser.add_argument("--no-overhead", action="store_true", help="leave out the tiny model")
    parser.add_argument("--no-verify", action="store_true", help="build without verification, to try the script")
    parser.add_argument(
        "--static", action="store_true", help="also time OpenVINO reshaped to the fixed shape; it is no peer of a ratio"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "cpu_peers.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
