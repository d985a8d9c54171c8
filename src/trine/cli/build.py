"""``trine build``: an ONNX file or a PyTorch module into one verified engine file."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trine.cli import console
from trine.cli.failures import ExitCode
from trine.cli.parser import Parser, UsageError, argument_type, positive_float, positive_int, whole_number
from trine.cli.shapes import ShapeTriple, parse_batch, parse_shapes, shape_ranges
from trine.errors import ConfigError, EngineSaveError

if TYPE_CHECKING:
    from trine.cli.sources import Source
    from trine.engine.engine import Engine

__all__ = ["execute", "parser"]

_PRECISION_FLAGS = ("fp16", "bf16", "tf32", "best")


def parser() -> Parser:
    """The options of ``trine build``."""
    result = Parser(
        "build",
        "MODEL [options]",
        "Make an engine: import the model, optimise it, time the backends, compare the answers with the source's,\n"
        "and write one file. Nothing is written unless the answers are right.",
        [
            "trine build model.onnx --output model.trine",
            "trine build torchvision.models:resnet18 --shapes=1x3x224x224 --batch 1:8:64 -o resnet18.trine",
            "trine build net.py:make --precision best",
            "trine build model.onnx --device cuda --fp16 --timing-cache h200.json --kernel-cache kernels",
            "trine build model.onnx --target sm_90 --fp16 --buckets 1,8,64",
            "trine build model.onnx --minShapes=input:1x3x224x224 --optShapes=input:8x3x224x224 \\",
            "    --maxShapes=input:32x3x224x224 --saveEngine=model.trine",
        ],
    )
    model = result.add_argument_group("model")
    model.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="model.onnx; or package.module:callable, or file.py:callable, which is called without arguments and"
        " returns an nn.Module or (module, example_inputs)",
    )
    model.add_argument("--onnx", metavar="FILE", help="the same as MODEL, as trtexec writes it")
    output = result.add_argument_group("output")
    output.add_argument(
        "-o", "--output", "--saveEngine", metavar="FILE", help="the engine file (default: MODEL's name.trine)"
    )
    add_shape_options(result)
    precision = result.add_argument_group("precision and accuracy")
    precision.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16", "fp16", "best"),
        help="what to compute in (default: fp32); best: the fastest that stays inside the accuracy budget; tf32:"
        " CUDA only",
    )
    for name in _PRECISION_FLAGS:
        precision.add_argument(f"--{name}", action="store_true", help=f"the same as --precision {name}")
    precision.add_argument(
        "--accuracy-budget",
        type=positive_float,
        metavar="ERROR",
        help="largest relative error allowed (default: fp32 1e-4, fp16 1e-2, bf16 5e-2)",
    )
    precision.add_argument(
        "--no-verify", action="store_true", help="do not compare with the source; recorded in the file"
    )
    precision.add_argument(
        "--seed", type=whole_number, default=0, help="for the random inputs of timing and verification (0)"
    )
    how = result.add_argument_group("how to build")
    how.add_argument(
        "--device",
        default="cpu",
        help="cpu (default), or cuda: for NVIDIA GPUs, with a plan for CPUs beside it; or tensorrt: a plan that"
        " NVIDIA's TensorRT builds, beside the one for CPUs that answers",
    )
    how.add_argument(
        "--target",
        metavar="SM",
        help="the GPU architecture, such as sm_90; needs no GPU (default: that of the GPU here)",
    )
    how.add_argument(
        "--buckets", type=argument_type(_numbers), metavar="1,8,64", help="CUDA: numbers of rows to make launches for"
    )
    how.add_argument("--kernel-cache", metavar="DIR", help="CUDA: remember compiled kernels in this folder")
    how.add_argument(
        "--quick-tuning", action="store_true", help="CUDA: time only the kernels that --kernel-cache holds already"
    )
    how.add_argument(
        "--noCpuFallback",
        action="store_true",
        help="CUDA: refuse a model with operators that have no kernels, instead of leaving these to the CPU",
    )
    how.add_argument("--threads", type=positive_int, help="threads for a call (default: all cores)")
    how.add_argument("--tactics", metavar="A,B", help="backends to try: openvino, onnxruntime (default: both)")
    how.add_argument(
        "--timing-cache", "--timingCacheFile", metavar="FILE", help="remember timings, so that a second build is quick"
    )
    return result


def add_shape_options(result: Parser) -> None:
    """--batch and trtexec's four shape options."""
    shapes = result.add_argument_group("shapes, written input:1x3x224x224,mask:1x10 (one input: 1x3x224x224)")
    shapes.add_argument(
        "--batch", type=argument_type(parse_batch), metavar="MIN:OPT:MAX", help="rows in a call: 8, 1:64 or 1:8:64"
    )
    for option, text in (
        ("--minShapes", "the smallest"),
        ("--optShapes", "the ones to tune for"),
        ("--maxShapes", "the largest"),
        ("--shapes", "fixed ones; for a PyTorch module without example inputs, with --batch: the example's"),
    ):
        shapes.add_argument(option, type=argument_type(parse_shapes), metavar="SHAPES", help=text)


def execute(options: Namespace) -> int:
    """Build and save. Raises what trine.build and Engine.save raise."""
    import trine
    from trine.cli.sources import load_source

    console.show_log(options)
    started = time.perf_counter()
    text = options.model or options.onnx
    if not text or (options.model and options.onnx):
        raise UsageError("name one model: trine build model.onnx, or trine build package.module:callable")
    ranges = shape_ranges(options.minShapes, options.optShapes, options.maxShapes, options.shapes)
    source = load_source(text, shapes=ranges, seed=options.seed)
    output = Path(options.output).expanduser() if options.output else default_output(text)
    check_output(output, text)
    settings: dict[str, Any] = {
        "precision": _precision(options),
        "device": options.device,
        "target": options.target,
        "buckets": options.buckets,
        "cpu_fallback": not options.noCpuFallback,
        "quick_tuning": options.quick_tuning,
        "kernel_cache": Path(options.kernel_cache).expanduser() if options.kernel_cache else None,
        "threads": options.threads,
        "verify": not options.no_verify,
        "accuracy_budget": options.accuracy_budget,
        "seed": options.seed,
        "timing_cache": Path(options.timing_cache).expanduser() if options.timing_cache else None,
        "tactics": tuple(options.tactics.split(",")) if options.tactics else None,
        "progress": not (options.quiet or options.json),
        **_extent(options, ranges, source),
    }
    with trine.build(source.model, source.example_inputs, **settings) as engine:
        engine.save(output)
        seconds = time.perf_counter() - started
        if options.json:
            console.print_json(_summary(engine, output, seconds))
        else:
            _print_summary(engine, output, seconds, options)
    return ExitCode.OK


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"expected numbers of rows such as 1,8,64, got {text!r}") from None


def _precision(options: Namespace) -> str:
    chosen = [name for name in _PRECISION_FLAGS if getattr(options, name)]
    if options.precision and options.precision not in chosen:
        chosen.append(options.precision)
    if len(chosen) > 1:
        raise UsageError(f"more than one precision: {', '.join(chosen)}; give one (best tries all)")
    return chosen[0] if chosen else "fp32"


def _extent(options: Namespace, ranges: dict[str, ShapeTriple] | None, source: Source) -> dict[str, Any]:
    """``batch`` or ``shapes`` for the builder, which takes one of the two."""
    if options.batch is None:
        if not ranges:
            return {}
        from trine.cli.sources import sole_input

        return {"shapes": {name or sole_input(source): triple for name, triple in ranges.items()}}
    if options.minShapes or options.optShapes or options.maxShapes:
        raise UsageError("--batch and --min/opt/maxShapes both say how many rows; give one of the two")
    if ranges and source.is_onnx:
        raise UsageError("--batch and --shapes both say how many rows; give one of the two")
    return {"batch": options.batch}


def default_output(model: str) -> Path:
    """``model.onnx`` → ``model.trine``, ``package.module:resnet18`` → ``resnet18.trine``, in the working directory."""
    name = model.rpartition(":")[2].rpartition(".")[2] if ":" in Path(model).name else Path(model).stem
    return Path(f"{name or 'engine'}.trine")


def check_output(path: Path, model: str) -> None:
    """Refuse, before minutes of building, what could not be written after them, or would replace the model itself."""
    for source in (Path(model).expanduser(), Path(model.rpartition(":")[0]).expanduser()):
        if path.is_file() and source.is_file() and path.samefile(source):
            raise UsageError(f"--output {path} is the model itself; give the engine a file of its own: -o model.trine")
    if path.is_dir():
        raise UsageError(f"--output {path} is a folder; give a file name in it: {path / 'model.trine'}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise EngineSaveError(f"--output {path}: the folder {path.parent} may not be written")


def _summary(engine: Engine, output: Path, seconds: float) -> dict[str, Any]:
    from trine.engine.inspector import inspect_engine

    data = inspect_engine(engine)
    del data["layers"]
    for plan in data["tensorrt"]:
        del plan["layers"]
    for plan in data["cuda"]:
        for bucket in plan["buckets"]:
            del bucket["groups"]
    return {"engine": str(output), "bytes": output.stat().st_size, "seconds": round(seconds, 3), **data}


def _print_summary(engine: Engine, output: Path, seconds: float, options: Namespace) -> None:
    evidence = engine.manifest.evidence
    if evidence is None:
        checked = "not verified"
    else:
        worst = max((float(r["metrics"]["relative_error"]) for r in evidence["rows"] if r["metrics"]), default=0.0)
        checked = f"largest relative error {worst:.1e} of {float(evidence['tolerance']):g} allowed"
        if options.verbose:
            from trine.verify.report import Report

            print(Report.from_json(dict(evidence)))
    from trine.engine.inspect_tensorrt import inspect_tensorrt
    from trine.report.markup import size

    targets = [name.removeprefix("cuda_") for name in engine.plans if name.startswith("cuda_")]
    by = f"cuda for {', '.join(targets)}" if targets else engine.tactic
    for plan in inspect_tensorrt(engine.plans) if engine.device == "cpu" else []:
        by += f", {plan['package']} {plan['precision']} (built, not run)"
    made = f"{size(output.stat().st_size)}, {engine.manifest.precision} by {by}"
    print(f"{output}  {made}, {checked}, {seconds:.1f} s")
