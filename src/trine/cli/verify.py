"""``trine verify``: an engine's answers beside its source's, as a table and an exit code."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from trine.cli import console
from trine.cli.failures import ExitCode
from trine.cli.image_options import add_image_options
from trine.cli.parser import Parser, positive_float, positive_int, whole_number

__all__ = ["execute", "parser"]


def parser() -> Parser:
    """The options of ``trine verify``."""
    result = Parser(
        "verify",
        "ENGINE SOURCE [FILE ...] [options]",
        "Compare an engine's answers with its source's. Exit code 0: all within the tolerance; 1: not.",
        [
            "trine verify model.trine model.onnx",
            "trine verify resnet18.trine torchvision.models:resnet18 cat.jpg dog.jpg",
            "trine verify model.trine model.onnx inputs.npz --tolerance 1e-5 --json",
        ],
    )
    result.add_argument("engine", metavar="ENGINE", help="the engine file")
    result.add_argument("source", metavar="SOURCE", help="what to compare with: model.onnx, or package.module:callable")
    result.add_argument(
        "files", nargs="*", metavar="FILE", help="images, x.npy, name=x.npy or inputs.npz (default: random data)"
    )
    result.add_argument(
        "--tolerance", type=positive_float, help="largest relative error allowed (default: by the engine's precision)"
    )
    result.add_argument("--seed", type=whole_number, default=0, help="for random data (0)")
    result.add_argument(
        "--device",
        help="cpu, cuda, cuda:1, ..., tensorrt (default: the GPU if the engine holds what runs on it, else the CPU)",
    )
    result.add_argument("--threads", type=positive_int, help="threads for a call (default: as built)")
    add_image_options(result)
    return result


def execute(options: Namespace) -> int:
    """Compare and print the report."""
    import trine
    from trine.cli.inputs import calls_from_files
    from trine.cli.sources import load_source
    from trine.verify.verify_engine import verify

    console.show_log(options)
    with trine.load(Path(options.engine).expanduser(), device=options.device, threads=options.threads) as engine:
        shapes = {name: (limits.opt,) * 3 for name, limits in engine.profile.ranges.items()}
        source = load_source(options.source, shapes=shapes, seed=options.seed)
        calls = None
        if options.files:
            calls = [dict(call.inputs) for call in calls_from_files(options.files, engine.manifest, options)]
        report = verify(engine, source.model, calls, tolerance=options.tolerance, seed=options.seed)
    if options.json:
        console.print_json({"engine": options.engine, "source": options.source, **report.to_json()})
    elif not options.quiet or not report.passed:
        print(report)
    return ExitCode.OK if report.passed else ExitCode.CHECK_FAILED
