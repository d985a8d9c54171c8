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

STYLE = Path(__file__).with_name("page.css")


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
        cells = (str(size), f"{eager:.1f} ms", f"{ours:.1f} ms", f"{eager / ours:.1f}&times;")
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
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
<style>{STYLE.read_text(encoding="utf-8")}</style>
<h1>EfficientNet-Lite0 on six photographs</h1>
<p class="lead">Imported from PyTorch, built into one file, loaded in a process without PyTorch.</p>
<ul class="facts">
<li><b>{agree} of {len(answers)}</b><span>photos where the first answer is PyTorch's</span></li>
<li><b>{difference:.1e}</b><span>largest difference in a logit (largest logit {scale:.1f})</span></li>
<li><b>{speedup:.1f}&times;</b><span>PyTorch eager's speed, one photo at a time</span></li>
</ul>
<h2>Answers</h2>
<div class="photos">{"".join(_figure(answer) for answer in answers)}</div>
<h2>Speed</h2>
<table>
<tr><th>batch</th><th>PyTorch eager</th><th>trine</th><th>speedup</th></tr>
{_latency_rows(latency)}
</table>
<p class="note">Medians, measured in turns on this machine's CPU with {threads} threads each.</p>
<h2>The engine's layers</h2>
{_layers(engine)}
</html>
""",
        encoding="utf-8",
    )
    return path
