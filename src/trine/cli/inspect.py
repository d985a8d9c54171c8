"""``trine inspect``: what is in an engine file, without compiling or running it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trine.cli import console
from trine.cli.failures import ExitCode
from trine.cli.parser import Parser, UsageError, positive_int

__all__ = ["execute", "parser"]


def parser() -> Parser:
    """The options of ``trine inspect``."""
    result = Parser(
        "inspect",
        "ENGINE [options]",
        "Show what is in an engine: inputs and outputs, tactics chosen and refused, sizes, evidence, layers.\n"
        "The file is read and checked, never compiled or run.",
        [
            "trine inspect model.trine",
            "trine inspect model.trine --layers",
            "trine inspect model.trine --roofline",
            "trine inspect model.trine --html model.html",
            "trine inspect model.trine --json | jq .operators",
        ],
    )
    result.add_argument("engine", metavar="ENGINE", help="the engine file")
    result.add_argument("--layers", action="store_true", help="print every layer (also: --verbose)")
    result.add_argument(
        "--roofline", action="store_true", help="for CUDA: each group's time beside what it must take at least"
    )
    result.add_argument("--rows", type=positive_int, help="--roofline for this many rows (default: the tuned number)")
    result.add_argument("--html", metavar="FILE", help="write a self-contained page instead; --roofline still prints")
    return result


def execute(options: Namespace) -> int:
    """Read and print."""
    from trine.cli.roofline import print_roofline
    from trine.engine.format import read_engine
    from trine.engine.inspector import inspect_engine

    console.show_log(options)
    if options.rows and not options.roofline:
        raise UsageError("--rows says which calls --roofline shows; add --roofline")
    path = Path(options.engine).expanduser()
    contents = read_engine(path)
    data = inspect_engine(contents)
    if options.roofline and not data["cuda"]:
        raise UsageError('--roofline: the engine has no plan for NVIDIA GPUs; build it with "--device cuda"')
    if options.html:
        from trine.report import write_page

        page = write_page(options.html, contents)
        console.note(options, f"wrote {page}")
    if options.json:
        console.print_json({"engine": str(path), "bytes": path.stat().st_size, **data})
    elif not options.html:
        _print({"bytes": path.stat().st_size, **data}, options)
    if options.roofline and not options.json:
        print_roofline(data, options.rows)
    return ExitCode.OK


def _print(data: dict[str, Any], options: Namespace) -> None:
    from rich.markup import escape

    from trine.cli.roofline import print_cuda_plans
    from trine.report.markup import count, size

    out = console.results()
    sizes = data["sizes"]
    out.print(f"[bold]{escape(data['name'])}[/bold]  {escape(data['precision'])}, from {escape(data['source'])}")
    versions = ", ".join(f"{package} {version}" for package, version in data["versions"].items())
    out.print(f"[dim]built {escape(data['created'])} with {escape(versions)}[/dim]")
    plans = "".join(f", plan {escape(name)} {size(length)}" for name, length in sizes["plan_bytes"].items())
    out.print(
        f"{count(sizes['parameters'])} parameters; {size(data['bytes'])}: graph {size(sizes['graph_bytes'])},"
        f" large weights {size(sizes['weight_bytes'])}{plans}\n"
    )
    _print_interface(data)
    _print_tactics(data)
    if data["cuda"]:
        print_cuda_plans(data)
    for plan in data["tensorrt"]:
        _print_tensorrt(plan, options.layers or options.verbose)
    _print_evidence(data)
    work = f", {count(data['macs'])} multiply-adds a {data['macs_of']}" if data["macs"] else ""
    before, after = data["build"].get("nodes_before"), data["build"].get("nodes_after")
    shrunk = f", {before} before the passes" if before and before != after else ""
    out.print(f"[bold]layers[/bold]  {len(data['layers'])}{shrunk}{work}")
    out.print("  " + ", ".join(f"{number} {escape(op)}" for op, number in data["operators"].items()))
    if options.layers or options.verbose:
        _print_layers(data)
    else:
        out.print("[dim]  --layers lists them; --html writes a page[/dim]")
    if options.roofline:
        out.print()


def _shape(shape: Sequence[int | str] | None) -> str:
    return "" if shape is None else "x".join(map(str, shape)) or "scalar"


def _print_interface(data: dict[str, Any]) -> None:
    from rich.markup import escape

    table = console.table("", "name", "dtype", "shape", "min", "opt", "max")
    for role in ("inputs", "outputs"):
        for info in data[role]:
            profile = info.get("profile", {})
            shapes = [_shape(profile.get(which)) for which in ("min", "opt", "max")]
            row: tuple[str, ...] = (role[:-1], info["name"], info["dtype"], _shape(info["shape"]), *shapes)
            table.add_row(*(escape(cell) for cell in row))
    console.results().print(table, "")


def _print_tactics(data: dict[str, Any]) -> None:
    from rich.markup import escape

    table = console.table("tactic", "precision", "median ms", "", "why not", numeric=("median ms",))
    for tactic in data["tactics"]:
        latency = "" if tactic["latency_ms"] is None else f"{tactic['latency_ms']:.3f}"
        state = "[green]chosen[/green]" if tactic["chosen"] else "built" if tactic.get("built_only") else "refused"
        reasons = "\n".join(tactic["reasons"])
        table.add_row(escape(tactic["name"]), tactic.get("precision", ""), latency, state, escape(reasons))
    if data["tactics"]:
        console.results().print(table, "")


def _print_tensorrt(plan: dict[str, Any], with_layers: bool) -> None:
    from rich.markup import escape

    from trine.report.markup import size

    out = console.results()
    target = f" for {plan['target']}" if plan["target"] else ""
    out.print(
        f"[bold]TensorRT[/bold]  {escape(plan['package'])} {escape(plan['version'])}, {escape(plan['precision'])}"
        f"{escape(target)}: {len(plan['layers'])} layers, {size(plan['plan_bytes'])}\n"
    )
    if with_layers:
        table = console.table("#", "kind", "name", "gives", "from", numeric=("#",))
        for index, layer in enumerate(plan["layers"]):
            gives, nodes = "\n".join(layer["outputs"]), ", ".join(layer["nodes"])
            table.add_row(str(index), *(escape(cell) for cell in (layer["kind"], layer["name"], gives, nodes)))
        out.print(table, "")


def _print_evidence(data: dict[str, Any]) -> None:
    out = console.results()
    if data["evidence"] is None:
        out.print("[bold]evidence[/bold]  [yellow]none: built with verification off[/yellow]\n")
        return
    from rich.markup import escape

    from trine.verify.report import Report

    out.print("[bold]evidence[/bold]  answers beside the source's, at build time")
    out.print(escape(str(Report.from_json(data["evidence"]))), "")


def _print_layers(data: dict[str, Any]) -> None:
    from rich.markup import escape

    from trine.report.markup import count

    numeric = ("#", "parameters", "multiply-adds")
    table = console.table("#", "operator", "name", "dtype", "gives", "parameters", "multiply-adds", numeric=numeric)
    for layer in data["layers"]:
        first: dict[str, Any] = layer["outputs"][0] if layer["outputs"] else {"dtype": "", "shape": None}
        table.add_row(
            str(layer["index"]),
            escape(layer["op"]),
            escape(layer["name"]),
            first["dtype"],
            escape(_shape(first["shape"])),
            count(layer["parameters"]) if layer["parameters"] else "",
            count(layer["macs"]) if layer["macs"] else "",
        )
    console.results().print(table)
