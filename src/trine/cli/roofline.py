"""What ``trine inspect`` prints of an engine's plans for NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trine.cli import console

__all__ = ["print_cuda_plans", "print_roofline"]

Data = Mapping[str, Any]


def print_cuda_plans(data: Data) -> None:
    """Target, buckets, launches, memory, and what is left to the CPU."""
    from rich.markup import escape

    from trine.engine.inspect_cuda import where_timed
    from trine.report.markup import size

    for plan in data["cuda"]:
        kernels = f"{plan['kernels']} kernels {size(plan['kernel_bytes'])}, weights {size(plan['weight_bytes'])}"
        out = console.results()
        timed = escape(where_timed(plan))
        out.print(f"[bold]CUDA[/bold]  {escape(plan['target'])} {escape(plan['precision'])}: {kernels}, {timed}")
        numeric = ("rows", "launches", "groups", "arena", "µs", "floor µs")
        table = console.table(*numeric, numeric=numeric)
        for bucket in plan["buckets"]:
            table.add_row(
                str(bucket["rows"]),
                str(bucket["launches"]),
                str(len(bucket["groups"])),
                size(bucket["arena_bytes"]),
                _microseconds(bucket["latency_us"]),
                _microseconds(bucket["floor_us"]),
            )
        out.print(table, "")
        if plan["cpu_parts"]:
            _print_cpu_parts(plan)


def _print_cpu_parts(plan: Data) -> None:
    """What has no kernels: the CPU computes it between two graphs of launches."""
    from rich.markup import escape

    out = console.results()
    steps = max(bucket["cpu_steps"] for bucket in plan["buckets"])
    out.print(f"[yellow]on the CPU[/yellow]  {steps} step{'' if steps == 1 else 's'} a call: operators without kernels")
    table = console.table("part", "operator", "node", "why", numeric=("part",))
    for number, part in enumerate(plan["cpu_parts"]):
        for node in part["nodes"]:
            table.add_row(str(number), *(escape(node[key]) for key in ("op", "name", "reason")))
    out.print(table, "")


def print_roofline(data: Data, rows: int | None) -> None:
    """Each group of launches beside what it must take at least, for calls of ``rows`` rows (None: the tuned ones)."""
    from rich.markup import escape

    from trine.engine.inspect_cuda import tuned_bucket

    out = console.results()
    for plan in data["cuda"]:
        bucket = tuned_bucket(data, plan, rows)
        out.print(f"[bold]roofline[/bold]  {escape(plan['target'])} {escape(plan['precision'])}, {bucket['rows']} rows")
        table = console.table(
            "#", "group", "kind", "tactic", "µs", "floor µs", "share of floor",
            numeric=("#", "µs", "floor µs", "share of floor"),
        )  # fmt: skip
        for number, group in enumerate(bucket["groups"]):
            table.add_row(
                str(number),
                *(escape(group[name]) for name in ("name", "kind", "tactic")),
                _microseconds(group["latency_us"]),
                _microseconds(group["floor_us"]),
                "" if group["share"] is None else f"{group['share']:.0%}",
            )
        latency, floor = bucket["latency_us"], bucket["floor_us"]
        share = f"{floor / latency:.0%}" if latency else ""
        table.add_section()
        table.add_row("", "all, one after another", "", "", _microseconds(latency), _microseconds(floor), share)
        out.print(table, "")


def _microseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
