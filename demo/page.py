"""The demo's results as one self-contained HTML page: photos, answers, speed, and the engine's layers."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from answers import Answer, Guess
from photos import Photo
from PIL import Image

import trine

STYLE = """
:root { --ink: #1d2330; --soft: #667085; --line: #e4e7ec; --ours: #0f766e; --theirs: #c2c8d2; --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7eaf0; --soft: #98a2b3; --line: #2b3240; --ours: #2dd4bf; --theirs: #475467; --paper: #12161f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3rem 1.25rem 5rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 2rem; letter-spacing: -.02em; }
h2 { margin: 3rem 0 1rem; font-size: 1.25rem; }
.lead, .note, figcaption { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: 1rem 3rem; margin: 2rem 0 0; padding: 0; list-style: none; }
.facts b { display: block; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.facts span { color: var(--soft); font-size: .875rem; }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 2rem 1.5rem; }
figure { margin: 0; }
figure img { display: block; width: 100%; aspect-ratio: 3 / 2; object-fit: cover; border-radius: 6px; }
figcaption { margin: .5rem 0; font-size: .8125rem; }
.guess { display: grid; grid-template-columns: 1fr 3.4rem 3.4rem; gap: .5rem; font-size: .875rem; }
.guess span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.guess b, .guess i { font-weight: 400; font-style: normal; text-align: right; font-variant-numeric: tabular-nums; }
.guess i { color: var(--soft); }
.guess.head { color: var(--soft); font-size: .75rem; }
.bar { height: 3px; margin-bottom: .375rem; background: var(--line); border-radius: 2px; }
.bar div { height: 100%; background: var(--ours); border-radius: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .375rem 1.5rem .375rem 0; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-size: .8125rem; font-weight: 500; }
iframe { width: 100%; height: 44rem; border: 1px solid var(--line); border-radius: 6px; background: #fff; }
"""


def _thumbnail(photo: Photo) -> str:
    """The photo, at most 480 pixels wide, as a data URI."""
    with Image.open(photo.path) as image:
        small = image.convert("RGB")
    small.thumbnail((480, 480))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _guess(ours: Guess, theirs: Guess) -> str:
    """One row: the class, trine's probability, PyTorch's, and a bar. Both names when they differ."""
    name = ours.name if ours.name == theirs.name else f"{ours.name} (PyTorch: {theirs.name})"
    return (
        f'<div class="guess"><span title="{escape(name)}">{escape(name)}</span>'
        f"<b>{ours.probability:.1%}</b><i>{theirs.probability:.1%}</i></div>"
        f'<div class="bar"><div style="width:{ours.probability:.1%}"></div></div>'
    )


def _figure(answer: Answer) -> str:
    photo = answer.photo
    rows = "".join(_guess(a, b) for a, b in zip(answer.trine, answer.pytorch, strict=True))
    return (
        f'<figure><img src="{_thumbnail(photo)}" alt="{escape(photo.shows)}">'
        f"<figcaption>{escape(photo.shows)}. {escape(photo.credit)}</figcaption>"
        f'<div class="guess head"><span></span><b>trine</b><i>PyTorch</i></div>{rows}</figure>'
    )


def _latency_rows(latency: dict[int, dict[str, float]]) -> str:
    rows = []
    for size, medians in latency.items():
        eager, ours = medians["PyTorch eager"], medians["trine"]
        rows.append(
            f"<tr><td>{size}</td><td>{eager:.1f} ms</td><td>{ours:.1f} ms</td><td>{eager / ours:.1f}×</td></tr>"
        )
    return "".join(rows)


def write_page(
    path: Path,
    engine: trine.Engine,
    answers: list[Answer],
    latency: dict[int, dict[str, float]],
    difference: float,
    scale: float,
    threads: int,
) -> Path:
    """Write the page to ``path``, with everything it shows inside it; returns ``path``."""
    agree = sum(a.trine[0].name == a.pytorch[0].name for a in answers)
    speedup = latency[1]["PyTorch eager"] / latency[1]["trine"]
    path.write_text(
        f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>trine: EfficientNet-Lite0 on six photographs</title>
<style>{STYLE}</style>
<h1>EfficientNet-Lite0 on six photographs</h1>
<p class="lead">Imported from PyTorch, built into one file, loaded in a process without PyTorch.</p>
<ul class="facts">
<li><b>{agree} of {len(answers)}</b><span>photos where the first answer is PyTorch's</span></li>
<li><b>{difference:.1e}</b><span>largest difference in a logit (largest logit {scale:.1f})</span></li>
<li><b>{speedup:.1f}×</b><span>PyTorch eager's speed, one photo at a time</span></li>
</ul>
<h2>Answers</h2>
<div class="photos">{"".join(_figure(answer) for answer in answers)}</div>
<h2>Speed</h2>
<table><tr><th>batch</th><th>PyTorch eager</th><th>trine</th><th>speedup</th></tr>{_latency_rows(latency)}</table>
<p class="note">Medians, measured in turns on this machine's CPU with {threads} threads each.</p>
<h2>The engine's layers</h2>
{_layers(engine)}
</html>
""",
        encoding="utf-8",
    )
    return path
