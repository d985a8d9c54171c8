"""One HTML page about an engine: everything inline, nothing fetched, nothing trusted."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from trine.engine.atomic_write import write_atomically
from trine.engine.inspector import Inspectable, inspect_engine
from trine.report import people, sections
from trine.report.entries import Fact, Latency, Photo
from trine.report.markup import count, exponent, milliseconds, size, text

__all__ = ["engine_page", "write_page"]


def engine_page(
    engine: Inspectable,
    *,
    title: str | None = None,
    lead: str = "",
    facts: Sequence[Fact] = (),
    photos: Sequence[Photo] = (),
    latencies: Sequence[Latency] = (),
) -> str:
    """The page's HTML. ``facts`` come before the engine's own numbers; empty sections are left out.

    In ``latencies``, the first entry of each group is what the others are compared with. Raises ConfigError for a
    thumbnail that is no image, EngineFormatError when the engine's graph is damaged.
    """
    data = inspect_engine(engine)
    parts = [_header(data, title or data["name"], lead, facts)]
    if photos:
        parts.append(_section("Answers", people.photo_cards(photos)))
    if latencies:
        parts.append(_section("Speed", people.speed(latencies), "Median time of one call; shorter is better."))
    parts += [
        _section("What goes in and out", sections.interface(data)),
        _section("The network", sections.network(data)),
        _section("Tactics", sections.tactics(data), _tactics_note(data)),
        *([_section("On NVIDIA GPUs", sections.gpus(data))] if data["cuda"] else []),
        *([_section("TensorRT's plan", sections.tensorrt(data))] if data["tensorrt"] else []),
        _section("Evidence", sections.evidence(data), _evidence_note(data)),
        _section("How it was built", sections.build(data)),
        _section("Layers", sections.layers(data)),
        _section("Provenance", sections.provenance(data)),
    ]
    template = resources.files("trine.report").joinpath("page.html").read_text(encoding="utf-8")
    style = resources.files("trine.report").joinpath("style.css").read_text(encoding="utf-8")
    # One split each, in this order: text of the model's may contain the markers, and must not be filled in again.
    head, rest = template.split("/*STYLE*/", 1)
    middle, tail = rest.split("<!--BODY-->", 1)
    head = head.replace("TITLE", text(title or data["name"]))
    return head + style + middle + "\n".join(parts) + tail


def write_page(path: str | Path, engine: Inspectable, **options: Any) -> Path:
    """Write ``engine_page(engine, **options)`` to ``path``; returns it.

    Raises EngineSaveError when it cannot; what was there before stays.
    """
    path = Path(path).expanduser()
    html = engine_page(engine, **options)
    write_atomically(path, [html.encode()])
    return path


def _section(heading: str, body: str, note: str = "") -> str:
    noted = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{heading}</h2>{noted}{body}</section>"


def _header(data: dict[str, Any], title: str, lead: str, facts: Sequence[Fact]) -> str:
    sizes, report = data["sizes"], data["evidence"]
    chosen: dict[str, Any] = next((tactic for tactic in data["tactics"] if tactic.get("chosen")), {})
    own = [
        Fact(str(len(data["layers"])), "layers"),
        Fact(count(sizes["parameters"]), "parameters"),
        Fact(size(sizes["graph_bytes"] + sizes["weight_bytes"]), "graph and weights"),
    ]
    if data["macs"]:
        own.append(Fact(count(data["macs"]), f"multiply-adds a {data['macs_of']}"))
    if chosen.get("latency_ms"):
        own.append(Fact(milliseconds(float(chosen["latency_ms"])), f"a call, by {chosen['name']}, at the tuned shape"))
    if report is not None:
        own.append(Fact(exponent(_worst(report)), "worst relative error"))
    if report is None:
        badge = '<span class="verdict none">not verified</span>'
    elif report.get("passed"):
        badge = '<span class="verdict ok">verified against its source</span>'
    else:
        badge = '<span class="verdict bad">outside its accuracy budget</span>'
    figures = "".join(f"<li><b>{text(fact.value)}</b><span>{text(fact.label)}</span></li>" for fact in (*facts, *own))
    where = "NVIDIA GPUs" if data["cuda"] else "the CPU"
    said = lead or f"{data['source']}, built for {where} in {data['precision']}."
    return (
        f'<header><p class="mark">{_MARK}trine engine</p><h1>{text(title)}</h1>'
        f'<p class="lead">{text(said)} {badge}</p><ul class="facts">{figures}</ul></header>'
    )


# Three corners of one triangle: import, build, run.
_MARK = (
    '<svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true"><path d="M12 4 21 20H3Z" fill="none" '
    'stroke="currentColor" stroke-width="1.6" stroke-linejoin="round"/><circle cx="12" cy="4" r="2.6"/>'
    '<circle cx="21" cy="20" r="2.6"/><circle cx="3" cy="20" r="2.6"/></svg>'
)


def _worst(report: dict[str, Any]) -> float | None:
    errors = [float(r["metrics"]["relative_error"]) for r in report.get("rows", ()) if r.get("metrics")]
    return max(errors, default=None)


def _tactics_note(data: dict[str, Any]) -> str:
    cpu = data["build"].get("cpu")
    if data["cuda"]:
        return "Precisions, the fastest first; which kernel computes what is chosen group by group."
    return (
        f"Whole-graph backends, timed at the tuned shape{' on ' + text(cpu) if cpu else ''}." if data["tactics"] else ""
    )


def _evidence_note(data: dict[str, Any]) -> str:
    report = data["evidence"]
    if report is None:
        return ""
    seed = "" if report.get("seed") is None else f" Random inputs from seed {text(report['seed'])}."
    allowed = f"what {text(report.get('precision'))} is allowed"
    return f"The engine's answers beside its source's. The bar is {allowed}, the dot what was measured.{seed}"
