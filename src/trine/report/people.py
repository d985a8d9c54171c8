"""The page's sections for people: photos with answers, and speed side by side."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from trine.errors import ConfigError
from trine.report.entries import Answer, Latency, Photo
from trine.report.markup import text

__all__ = ["photo_cards", "speed"]

_KINDS = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"RIFF", "webp"))


def photo_cards(photos: Sequence[Photo]) -> str:
    """A card for each photo: the first answerer's classes as bars, the second's beside them."""
    return f'<div class="photos">{"".join(_card(photo) for photo in photos)}</div>'


def _card(photo: Photo) -> str:
    names = list(photo.answers)
    ours = photo.answers[names[0]] if names else ()
    theirs: Sequence[Answer] = photo.answers[names[1]] if len(names) > 1 else ()
    rows = "".join(_row(answer, rank, theirs) for rank, answer in enumerate(ours))
    heads = "".join(f"<b>{text(name)}</b>" for name in names[:2])
    credit = f"<small>{text(photo.credit)}</small>" if photo.credit else ""
    return (
        f'<figure><img src="{_data_uri(photo)}" alt="{text(photo.name)}"><figcaption>{text(photo.name)}{credit}'
        f'</figcaption><div class="guess head"><span></span>{heads}</div>{rows}</figure>'
    )


def _row(answer: Answer, rank: int, theirs: Sequence[Answer]) -> str:
    other = next((their for their in theirs if their.label == answer.label), None)
    label, tick, cell = answer.label, "", ""
    if other is not None:
        cell = f"<b>{other.probability:.1%}</b>"
        tick = f'<s style="left:{100 * other.probability:.2f}%"></s>'
    elif rank < len(theirs):
        label = f"{answer.label} (not {theirs[rank].label})"
        cell = "<b>&ndash;</b>"
    return (
        f'<div class="guess"><span title="{text(label)}">{text(label)}</span><b>{answer.probability:.1%}</b>{cell}'
        f'<div class="bar"><i style="width:{100 * answer.probability:.2f}%"></i>{tick}</div></div>'
    )


def _data_uri(photo: Photo) -> str:
    kind = next((kind for magic, kind in _KINDS if photo.thumbnail.startswith(magic)), None)
    if kind is None:
        raise ConfigError(f"photo {photo.name!r}: thumbnail is no JPEG, PNG or WebP file; give a whole file's bytes")
    return f"data:image/{kind};base64,{base64.b64encode(photo.thumbnail).decode('ascii')}"


def speed(latencies: Sequence[Latency]) -> str:
    """Bars by group; the first entry of a group is what the others are compared with."""
    groups: dict[str, list[Latency]] = {}
    for entry in latencies:
        groups.setdefault(entry.group, []).append(entry)
    parts = []
    for group, entries in groups.items():
        slowest = max(entry.ms for entry in entries) or 1.0
        rows = []
        for entry in entries:
            ratio = entry.ms / entries[0].ms if entries[0].ms else 1.0
            note = "" if entry is entries[0] else f"{ratio:.2f}&times; the time of {text(entries[0].name)}"
            rows.append(
                f'<li class="{"chosen" if entry is entries[0] else "refused"}">'
                f'<div class="who"><b>{text(entry.name)}</b><small>{note}</small></div>'
                f'<div class="bar"><i style="width:{100 * entry.ms / slowest:.1f}%"></i></div>'
                f'<span class="figure">{entry.ms:.2f} ms</span></li>'
            )
        parts.append(f'<h3>{text(group)}</h3><ul class="tactics">{"".join(rows)}</ul>')
    return "".join(parts)
