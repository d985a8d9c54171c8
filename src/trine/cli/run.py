"""``trine run``: an engine's answers to images, arrays or random data."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trine.cli import console
from trine.cli.failures import ExitCode
from trine.cli.image_options import add_image_options
from trine.cli.parser import Parser, UsageError, argument_type, positive_int, whole_number
from trine.cli.shapes import parse_shapes

if TYPE_CHECKING:
    import numpy as np

    from trine.cli.inputs import Call

__all__ = ["execute", "parser"]

TOP = 5  # classes, where --top says nothing


def parser() -> Parser:
    """The options of ``trine run``."""
    result = Parser(
        "run",
        "ENGINE [FILE ...] [options]",
        "Answer images, arrays (.npy, .npz) or, with neither, seeded random data.",
        [
            "trine run resnet18.trine cat.jpg dog.jpg --labels imagenet.txt --top 3",
            "trine run model.trine input.npy --output answers.npz",
            "trine run model.trine ids=ids.npy mask=mask.npy --json",
            "trine run efficientnet_lite0.trine cat.jpg --scale 1 --mean 127 --std 128",
            "trine run model.trine --batch 8 --seed 7",
        ],
    )
    result.add_argument("engine", metavar="ENGINE", help="the engine file")
    result.add_argument("files", nargs="*", metavar="FILE", help="images, x.npy, name=x.npy or inputs.npz")
    output = result.add_argument_group("answers")
    output.add_argument("--labels", metavar="FILE", help="names of the classes: one a line, or JSON")
    output.add_argument("--top", type=positive_int, metavar="K", help="how many classes to print (5)")
    output.add_argument("-o", "--output", metavar="FILE", help="write every output, by name, to this .npz file")
    add_image_options(result)
    random = result.add_argument_group("random data")
    random.add_argument("--batch", type=positive_int, help="rows (default: what the engine is tuned for)")
    random.add_argument("--shapes", type=argument_type(parse_shapes), help="whole shapes: input:1x3x224x224")
    random.add_argument("--seed", type=whole_number, default=0, help="(0)")
    result.add_argument(
        "--device",
        help="cpu, cuda, cuda:1, ..., tensorrt (default: the GPU if the engine holds what runs on it, else the CPU)",
    )
    result.add_argument("--threads", type=positive_int, help="threads for a call (default: as built)")
    return result


def execute(options: Namespace) -> int:
    """Run every call, print what it gave."""
    import trine
    from trine.cli.inputs import calls_from_files, random_call
    from trine.cli.labels import load_labels

    console.show_log(options)
    labels = load_labels(Path(options.labels).expanduser()) if options.labels else None
    output = Path(options.output).expanduser() if options.output else None
    if output is not None and output.suffix.lower() != ".npz":
        raise UsageError(f"--output {output}: outputs are written as .npz; name it {output.with_suffix('.npz')}")
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {output.parent}; create it first")
    if options.files and (options.batch or options.shapes):
        raise UsageError("--batch and --shapes are of random data; leave them out, or the files")
    missing = [file for file in options.files if not Path(file.rpartition("=")[2]).expanduser().exists()]
    if missing:
        raise UsageError(f"{missing[0]}: no such file")
    with trine.load(Path(options.engine).expanduser(), device=options.device, threads=options.threads) as engine:
        if options.files:
            calls = calls_from_files(options.files, engine.manifest, options)
        else:
            calls = iter([random_call(engine.manifest, batch=options.batch, shapes=options.shapes, seed=options.seed)])
        answers: list[dict[str, Any]] = []
        documents: list[dict[str, Any]] = []
        with engine.create_execution_context() as context:
            for call in calls:
                started = time.perf_counter()
                outputs = context.execute(call.inputs)
                latency_ms = 1e3 * (time.perf_counter() - started)
                # Rows that only filled up a fixed batch have no name, and are no answer to anything asked.
                wanted = {
                    name: array[: len(call.names)] if call.names and array.ndim else array
                    for name, array in outputs.items()
                }
                documents += _describe(call, wanted, latency_ms, options, labels)
                answers.append(wanted)
        if output is not None:
            _write(output, answers)
    if options.json:
        console.print_json({"engine": options.engine, "results": documents})
    else:
        for document in documents:
            _print(document, options)
        if output is not None:
            console.note(options, f"wrote {output}")
    return ExitCode.OK


def _describe(
    call: Call, outputs: dict[str, Any], latency_ms: float, options: Namespace, labels: list[str] | None
) -> list[dict[str, Any]]:
    """For each image its classes; otherwise one entry, with each output in figures and the first rows' classes."""
    from trine.cli.labels import is_classification, top

    scores = next((array for array in outputs.values() if is_classification(array)), None)
    if labels is not None and scores is not None and len(labels) > scores.shape[1]:
        text = f"{options.labels}: {len(labels)} labels for {scores.shape[1]} classes; are they this model's?"
        console.note(options, text)
    ranked = [] if scores is None else [top(row, options.top or TOP, labels) for row in scores]
    classes = [[vars(entry) for entry in row] for row in ranked]
    rounded = round(latency_ms, 4)
    if call.names and classes:
        return [
            {"input": name, "top": row, "batch": len(call.names), "call_ms": rounded}
            for name, row in zip(call.names, classes, strict=True)
        ]
    figures = [_figures(name, array) for name, array in outputs.items()]
    names = ", ".join(call.names or options.files) or f"random data, seed {options.seed}"
    asked = labels is not None or options.top is not None or bool(call.names)
    return [{"input": names, "outputs": figures, "top": classes if asked else [], "call_ms": rounded}]


def _figures(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size and array.dtype.kind in "fiub":
        values = array.astype("float64")
        entry |= {"min": float(values.min()), "max": float(values.max()), "mean": float(values.mean())}
    elif array.dtype.name == "bfloat16" and array.size:
        return {**_figures(name, array.astype("float32")), "dtype": "bfloat16"}
    return entry


def _print(document: dict[str, Any], options: Namespace) -> None:
    from rich.markup import escape
    from rich.table import Table

    out = console.results()
    out.print(f"[bold]{escape(document['input'])}[/bold]  [dim]{document['call_ms']:.2f} ms[/dim]")
    for figures in document.get("outputs", []):
        shape = "x".join(map(str, figures["shape"])) or "scalar"
        numbers = "  ".join(f"{key} {figures[key]:.6g}" for key in ("min", "max", "mean") if key in figures)
        out.print(f"  {escape(figures['name'])}  {figures['dtype']} {shape}  {numbers}")
    rows = document["top"] if document["top"] and isinstance(document["top"][0], list) else [document["top"]]
    for number, row in enumerate(rows):
        if not row:
            continue
        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(justify="right")
        table.add_column(justify="right")
        table.add_column()
        for entry in row:
            table.add_row(f"{entry['probability']:.2%}", f"[dim]{entry['index']}[/dim]", escape(entry["label"]))
        if len(rows) > 1:
            out.print(f"  row {number}")
        out.print(table)


def _write(path: Path, answers: list[dict[str, Any]]) -> None:
    """All calls' outputs, joined by row, as an .npz; whole or not at all. Raises OSError."""
    import io

    import numpy as np

    from trine.engine.atomic_write import write_atomically

    joined = {
        name: np.concatenate([answer[name] for answer in answers]) if len(answers) > 1 else answers[0][name]
        for name in answers[0]
    }
    if any(array.dtype == object for array in joined.values()):
        joined = {name: array.astype(str) if array.dtype == object else array for name, array in joined.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **joined)
    write_atomically(path, [memoryview(buffer.getbuffer())])
