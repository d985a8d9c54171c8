"""Charts as inline SVG, coloured by the page's style sheet, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trine.report.markup import count, exponent, family, shape_text, size, text

__all__ = ["error_scale", "launch_bars", "skyline", "stage_strip"]

WIDTH, ABOVE, BELOW = 1200.0, 190.0, 110.0


def skyline(layers: Sequence[Mapping[str, Any]]) -> str:
    """Every layer in order: its work rises above the line, its weights hang below. Square-root scales, so that
    small layers stay visible beside large ones."""
    if not layers:
        return '<p class="soft">The graph has no layers: outputs are inputs or constants.</p>'
    most_work = max((layer["macs"] or 0 for layer in layers), default=0) or 1
    most_weights = max((layer["weight_bytes"] for layer in layers), default=0) or 1
    step = WIDTH / len(layers)
    bar = max(step - min(1.5, step * 0.25), 0.4)
    bars = []
    for layer in layers:
        x = layer["index"] * step
        up = ABOVE * math.sqrt((layer["macs"] or 0) / most_work)
        down = BELOW * math.sqrt(layer["weight_bytes"] / most_weights)
        outputs = layer["outputs"]
        shape = shape_text(outputs[0]["shape"]) if outputs else ""
        facts = [f"{layer['index']} {layer['op']}", layer["name"], shape]
        if layer["macs"]:
            facts.append(f"{count(layer['macs'])} multiply-adds")
        if layer["weight_bytes"]:
            facts.append(f"{size(layer['weight_bytes'])} of weights")
        bars.append(
            f'<g class="{family(layer["op"])}"><title>{text(chr(10).join(fact for fact in facts if fact))}</title>'
            f'<rect class="hit" x="{x:.2f}" y="0" width="{step:.2f}" height="{ABOVE + BELOW + 14:.0f}"/>'
            + (f'<rect x="{x:.2f}" y="{ABOVE - up:.2f}" width="{bar:.2f}" height="{up:.2f}"/>' if up else "")
            + f'<rect x="{x:.2f}" y="{ABOVE + 3}" width="{bar:.2f}" height="8"/>'
            + (
                f'<rect class="weights" x="{x:.2f}" y="{ABOVE + 14}" width="{bar:.2f}" height="{down:.2f}"/>'
                if down
                else ""
            )
            + "</g>"
        )
    return (
        f'<svg class="skyline" viewBox="0 0 {WIDTH:.0f} {ABOVE + BELOW + 14:.0f}" preserveAspectRatio="none" '
        'role="img" '
        f'aria-label="{len(layers)} layers in order: work above the line, weights below it">{"".join(bars)}</svg>'
    )


def launch_bars(groups: Sequence[Mapping[str, Any]]) -> str:
    """Every group of launches in order, as high as it takes long; the darker part is what it must take at least."""
    most = max((group["latency_us"] or group["floor_us"] or 0.0 for group in groups), default=0.0) or 1.0
    step = WIDTH / max(len(groups), 1)
    bar = max(step - min(1.5, step * 0.25), 0.4)
    bars = []
    for index, group in enumerate(groups):
        latency, floor = group["latency_us"], group["floor_us"]
        facts = [f"{index} {group['kind']}", group["name"], group["tactic"]]
        facts += [f"{latency:.2f} µs"] if latency is not None else []
        facts += [f"{floor:.2f} µs at least"] if floor is not None else []
        heights = [("time", latency or 0.0), ("floor", min(floor or 0.0, latency or most))]
        bars.append(
            f"<g><title>{text(chr(10).join(fact for fact in facts if fact))}</title>"
            f'<rect class="hit" x="{index * step:.2f}" y="0" width="{step:.2f}" height="{ABOVE:.0f}"/>'
            + "".join(
                f'<rect class="{kind}" x="{index * step:.2f}" y="{ABOVE - ABOVE * value / most:.2f}" '
                f'width="{bar:.2f}" height="{ABOVE * value / most:.2f}"/>'
                for kind, value in heights
                if value
            )
            + "</g>"
        )
    return (
        f'<svg class="launches" viewBox="0 0 {WIDTH:.0f} {ABOVE:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{len(groups)} groups of launches in order, with their times and floors">{"".join(bars)}</svg>'
    )


def stage_strip(stages: Sequence[Mapping[str, Any]]) -> str:
    """The build's stages side by side, as wide as they took long, with a legend that has the seconds."""
    total = sum(float(stage["seconds"]) for stage in stages) or 1.0
    parts, legend = [], []
    for index, stage in enumerate(stages):
        seconds, name = float(stage["seconds"]), text(stage["name"])
        shade = f"--i:{index % 8}"
        parts.append(
            f'<span style="flex-grow:{max(seconds / total, 0.002):.4f};{shade}" title="{name}: {seconds:.2f} s"></span>'
        )
        legend.append(f'<li style="{shade}"><i></i>{name} <b>{seconds:.2f} s</b></li>')
    return f'<div class="strip">{"".join(parts)}</div><ul class="legend">{"".join(legend)}</ul>'


def error_scale(error: float | str | None, tolerance: float | str) -> str:
    """A dot for ``error`` on a logarithmic line from 1e-9 to 1, and a tick for what is allowed."""
    low, high = -9.0, 0.0

    def place(value: float) -> float:
        if value <= 0:
            return 0.0
        return min(max((math.log10(value) - low) / (high - low), 0.0), 1.0) if math.isfinite(value) else 1.0

    if error is None:
        return ""
    at, limit = place(float(error)) * 100, place(float(tolerance)) * 100
    fits = float(error) <= float(tolerance)
    return (
        f'<span class="scale" title="error {exponent(error)}, allowed {exponent(tolerance)}">'
        f'<i style="width:{limit:.1f}%"></i><b class="{"ok" if fits else "bad"}" style="left:{at:.1f}%"></b></span>'
    )
