"""``trine bench``: trtexec's summary of an engine's speed, alone or beside other ways to run the model."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trine.cli import console
from trine.cli.failures import ExitCode
from trine.cli.parser import Parser, UsageError, argument_type, positive_float, positive_int, whole_number
from trine.cli.shapes import parse_shapes
from trine.errors import ConfigError

if TYPE_CHECKING:
    from trine.cli.inputs import Call
    from trine.cli.measure import Runner, Series
    from trine.engine.engine import Engine

__all__ = ["execute", "parser"]

INCLUDES = "host to host: one call from NumPy arrays to NumPy arrays, with checking the inputs and copying"


def parser() -> Parser:
    """The options of ``trine bench``."""
    result = Parser(
        "bench",
        "ENGINE [options]",
        f"Time an engine: throughput and latency over calls one after another.\nLatency is {INCLUDES}.",
        [
            "trine bench model.trine",
            "trine bench model.trine --batch 8 --duration 10 --percentile 50,99,99.9",
            "trine bench model.trine --streams 4 --threads 1",
            "trine bench resnet18.trine --vs torch,onnxruntime,openvino --source torchvision.models:resnet18",
        ],
    )
    result.add_argument("engine", metavar="ENGINE", nargs="?", help="the engine file")
    result.add_argument("--loadEngine", metavar="FILE", help="the same as ENGINE, as trtexec writes it")
    what = result.add_argument_group("input")
    what.add_argument("--batch", type=positive_int, help="rows in a call (default: what the engine is tuned for)")
    what.add_argument("--shapes", type=argument_type(parse_shapes), help="whole shapes: input:1x3x224x224")
    what.add_argument("--inputs", metavar="FILE", nargs="+", help="x.npy, name=x.npy, inputs.npz (default: random)")
    what.add_argument("--seed", type=whole_number, default=0, help="for random data (0)")
    how = result.add_argument_group("measuring")
    how.add_argument("--duration", type=_not_negative, default=3.0, metavar="S", help="seconds to measure, each (3)")
    how.add_argument("--iterations", type=positive_int, default=10, help="calls to measure at least, each (10)")
    how.add_argument(
        "--warmUp", "--warm-up", type=_not_negative, default=200.0, metavar="MS", help="milliseconds before, each (200)"
    )
    how.add_argument(
        "--percentile", type=argument_type(_percentiles), default=(90.0, 95.0, 99.0), help="which to print (90,95,99)"
    )
    how.add_argument("--streams", "--infStreams", type=positive_int, default=1, help="contexts that run at once (1)")
    how.add_argument(
        "--device",
        help="cpu, cuda, cuda:1, ..., tensorrt (default: the GPU if the engine holds what runs on it, else the CPU)",
    )
    how.add_argument("--threads", type=positive_int, help="threads of each call (default: as built)")
    how.add_argument(
        "--dumpProfile", "--profile", action="store_true", help="also each layer's time, measured apart from the rest"
    )
    peers = result.add_argument_group("comparison, interleaved in this process, with the same number of threads")
    peers.add_argument("--vs", metavar="A,B", help="torch, onnxruntime, openvino")
    peers.add_argument("--source", metavar="MODEL", help="model.onnx or package.module:callable: what the others run")
    return result


@argument_type
def _not_negative(text: str) -> float:
    return 0.0 if text in ("0", "0.0") else positive_float(text)


def _percentiles(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (-1.0,)
    if not all(0 < value <= 100 for value in values):
        raise ConfigError(f"expected numbers above 0 and up to 100, such as 90,95,99, got {text!r}")
    return values


def execute(options: Namespace) -> int:
    """Measure and print."""
    import trine
    from trine.cli.measure import measure_in_turns, measure_streams
    from trine.cli.peers import parse_peers

    console.show_log(options)
    name = options.engine or options.loadEngine
    if not name or (options.engine and options.loadEngine):
        raise UsageError("name one engine: trine bench model.trine")
    peers = parse_peers(options.vs) if options.vs else ()
    if peers and options.streams > 1:
        raise UsageError("--vs runs one call at a time; leave out --streams, or --vs")
    if options.source and not peers:
        raise UsageError("--source is what the others of --vs run; add --vs onnxruntime")
    spans = {
        "warm_up_s": options.warmUp / 1e3,
        "duration_s": options.duration,
        "iterations": options.iterations,
    }
    with trine.load(Path(name).expanduser(), device=options.device, threads=options.threads) as engine:
        call = _call(engine, options)
        rows = next((array.shape[0] for array in call.inputs.values() if array.ndim), 1)
        runners, setting = [_engine_runner(engine, call, options)], _setting(engine, call, options)
        if peers:
            runners += _peer_runners(peers, engine, call, options, setting)
        if options.streams > 1:
            streams = [_engine_runner(engine, call, options).call for _ in range(options.streams)]
            series = [measure_streams(streams, "trine", rows, **spans)]
        else:
            series = measure_in_turns(runners, rows, **spans)
        layers = {"layers": _layers(engine, call, options.iterations)} if options.dumpProfile else {}
    document = {
        **setting,
        **layers,
        "results": [entry.to_json(options.percentile) for entry in series],
        **_ratios(series),
    }
    if options.json:
        console.print_json(document)
    else:
        _print(document, series, options)
    return ExitCode.OK


def _call(engine: Engine, options: Namespace) -> Call:
    from trine.cli.inputs import calls_from_files, random_call

    if options.inputs:
        if options.batch or options.shapes:
            raise UsageError("--inputs has the shapes already; leave out --batch and --shapes")
        return next(calls_from_files(options.inputs, engine.manifest, options))
    return random_call(engine.manifest, batch=options.batch, shapes=options.shapes, seed=options.seed)


def _engine_runner(engine: Engine, call: Call, options: Namespace) -> Runner:
    from trine.cli.measure import Runner

    context = engine.create_execution_context()
    inputs = call.inputs
    context.execute(inputs)  # what does not fit the engine is said now, not within the measurement
    return Runner("trine", lambda: context.execute(inputs), f"{engine.tactic}, {engine.manifest.precision}")


def _layers(engine: Engine, call: Call, calls: int) -> list[dict[str, Any]]:
    """Each layer's mean over ``calls``, in the order of execution."""
    from trine.runtime.layer_times import LayerTimes

    times = LayerTimes(engine)
    times.execute(call.inputs)  # the first call allocates
    total: dict[str, float] = {}
    for _ in range(calls):
        times.execute(call.inputs)
        for name, milliseconds in times.last:
            total[name] = total.get(name, 0.0) + milliseconds
    return [{"name": name, "mean_ms": milliseconds / calls} for name, milliseconds in total.items()]


def _setting(engine: Engine, call: Call, options: Namespace) -> dict[str, Any]:
    from trine.runtime.cpu import CpuPlan
    from trine.runtime.cpu.features import cpu_model, usable_cores

    return {
        "engine": options.engine or options.loadEngine,
        "name": engine.manifest.name,
        "tactic": engine.tactic,
        "precision": engine.manifest.precision,
        "cpu": cpu_model(),
        "device": engine.device,
        "threads": (engine.plan.threads if isinstance(engine.plan, CpuPlan) else 0) or usable_cores(),
        "streams": options.streams,
        "shapes": {name: list(array.shape) for name, array in call.inputs.items()},
        "includes": INCLUDES,
    }


def _peer_runners(
    peers: tuple[str, ...], engine: Engine, call: Call, options: Namespace, setting: dict[str, Any]
) -> list[Runner]:
    """The others, ready to run; ``setting`` is told what they run and how far their answers are from trine's."""
    import numpy as np

    from trine.cli.peers import make_peer, outputs_of, peer_model
    from trine.cli.sources import load_source
    from trine.verify.metrics import measure

    ranges = {info.name: (call.inputs[info.name].shape,) * 3 for info in engine.inputs}
    source = load_source(options.source, shapes=ranges, seed=options.seed) if options.source else None
    model = peer_model(engine, source) if set(peers) - {"torch"} else None
    if model is not None:
        setting["peers_run"] = model.what
    runners = [make_peer(name, engine, model, source, call.inputs, threads=setting["threads"]) for name in peers]
    with engine.create_execution_context() as context:
        ours = list(context.execute(call.inputs).values())
    errors: dict[str, float | None] = {}
    for runner in runners:
        theirs = outputs_of(runner.call())
        same = theirs is not None and [a.shape for a in theirs] == [a.shape for a in ours]
        errors[runner.name] = (
            max(measure(a, np.asarray(b)).relative_error for a, b in zip(ours, theirs, strict=True))
            if theirs is not None and same
            else None
        )
    setting["relative_error_to"] = errors
    return runners


def _ratios(series: list[Series]) -> dict[str, Any]:
    if len(series) < 2:
        return {}
    medians = [entry.percentile(50) for entry in series]
    return {
        "median_ratios": {
            entry.name: median / medians[0] for entry, median in zip(series[1:], medians[1:], strict=True)
        }
    }


def _print(document: dict[str, Any], series: list[Series], options: Namespace) -> None:
    from rich.markup import escape

    out = console.results()
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in document["shapes"].items())
    out.print(f"[bold]{escape(document['name'])}[/bold]  {document['precision']} by {document['tactic']}")
    streams = f", {document['streams']} streams" if document["streams"] > 1 else ""
    out.print(f"{escape(shapes)}; {document['threads']} threads{streams}; {escape(document['cpu'])}\n")
    if "layers" in document:
        _print_layers(document["layers"])
    if len(series) > 1:
        _print_comparison(document, series, options)
        return
    result = document["results"][0]
    latency = result["latency_ms"]
    out.print("=== Performance summary ===")
    out.print(
        f"Throughput: {result['throughput_qps']:.6g} qps ({result['rows_per_s']:.6g} rows/s), {result['calls']} calls"
    )
    named = ", ".join(f"{key} = {latency[key]:.6g} ms" for key in ("min", "max", "mean", "median"))
    percentiles = ", ".join(f"percentile({p:g}%) = {latency[f'p{p:g}']:.6g} ms" for p in options.percentile)
    out.print(f"Latency: {named}, {percentiles}")
    out.print(f"[dim]Latency is {document['includes']}.[/dim]")


def _print_layers(layers: list[dict[str, Any]]) -> None:
    """trtexec's profile: time, share, name."""
    from rich.markup import escape

    out = console.results()
    total = sum(layer["mean_ms"] for layer in layers)
    out.print("=== Profile ===")
    for layer in layers:
        share = layer["mean_ms"] / total if total else 0.0
        out.print(f"{layer['mean_ms']:9.4f} ms {share:6.1%}  {escape(layer['name'])}")
    out.print(f"{total:9.4f} ms         in all\n")


def _print_comparison(document: dict[str, Any], series: list[Series], options: Namespace) -> None:
    from rich.table import Table

    out = console.results()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for heading in (
        "min",
        "median",
        "mean",
        *(f"{p:g}%" for p in options.percentile),
        "qps",
        "time / trine's",
        "rel. error",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    ratios, errors = document["median_ratios"], document["relative_error_to"]
    for result in document["results"]:
        latency, name = result["latency_ms"], result["name"]
        error = errors.get(name)
        table.add_row(
            f"[bold]{name}[/bold]",
            *(f"{latency[key]:.3f}" for key in ("min", "median", "mean", *(f"p{p:g}" for p in options.percentile))),
            f"{result['throughput_qps']:.1f}",
            f"{ratios.get(name, 1.0):.2f}x",
            "" if name == "trine" else "not comparable" if error is None else f"{error:.1e}",
        )
    out.print(table)
    out.print()
    for entry in series:
        out.print(f"[dim]{entry.name}: {entry.note}[/dim]")
    if "peers_run" in document:
        out.print(f"[dim]the ONNX peers run {document['peers_run']}[/dim]")
    out.print(f"[dim]milliseconds, {document['includes']}; in turns in one process[/dim]")
