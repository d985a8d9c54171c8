"""The bytes of an engine file: a prelude, a JSON header, and aligned sections with checksums. See FORMAT.md.

Nothing here knows what the sections mean. Every byte of a file is under a checksum, or must be zero, or must
have the one value that the rest allows; so any changed bit is found, and the error names where it is.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trine.engine import strict_json
from trine.engine.file_kinds import what_it_is
from trine.errors import ConfigError, EngineFormatError, EngineVersionError

__all__ = [
    "MAGIC",
    "MAJOR",
    "MINOR",
    "PRELUDE",
    "Layout",
    "Section",
    "encode",
    "open_layout",
    "verify_section",
]

MAGIC = b"\x89TRINE\r\n"  # not text, and broken by whatever rewrites line ends
MAJOR, MINOR = 1, 0
PRELUDE = struct.Struct("<8sHHIQQ32s")  # magic, major, minor, flags, header bytes, file bytes, SHA-256
_HASHED = PRELUDE.size - 32  # the prelude's own fields are under the header's checksum, too
CHUNK = 4 * 2**20  # each section has a SHA-256 for every chunk, so that several threads can check it
PAGE = 4096
_ALIGNMENT = 64
_MAX_SECTIONS = 1024
_MAX_NAME = 64

Parts = Sequence[memoryview]


@dataclass(frozen=True)
class Section:
    """A named run of bytes: ``offset`` from the file's start, and a SHA-256 (hex) for each 4 MiB."""

    name: str
    offset: int
    length: int
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """A file whose prelude, header and padding are right. ``sections`` are in file order, not yet hashed."""

    version: tuple[int, int]
    header: Mapping[str, Any]
    header_bytes: int
    file_bytes: int
    sections: Mapping[str, Section]

    @property
    def is_newer(self) -> bool:
        """Whether a later minor version wrote it, which may have added keys and sections."""
        return self.version[1] > MINOR


def encode(header: Mapping[str, Any], sections: Mapping[str, Parts]) -> Iterator[memoryview]:
    """The file's bytes in order, streamed: the sections' own memory is not copied.

    ``header`` may hold any JSON but "sections". Raises ConfigError for what a file cannot hold.
    """
    table, starts, end = [], [], 0
    for name, parts in sections.items():
        start = _align(end, name)
        end = start + sum(part.nbytes for part in parts)
        starts.append(start)
        digests = [digest.hexdigest() for digest in _chunk_hashes(parts)]
        table.append({"name": name, "offset": start, "length": end - start, "sha256": digests})
    try:
        text = strict_json.dump({**header, "sections": table})
        data_start = _align(PRELUDE.size + len(text), "weights")
        strict_json.check_budget(text, "header", data_start + end)
    except (ValueError, TypeError, EngineFormatError) as err:
        raise ConfigError(f"this engine's header cannot be written: {err}") from err
    front = PRELUDE.pack(MAGIC, MAJOR, MINOR, 0, len(text), data_start + end, b"")[:_HASHED]
    front += hashlib.sha256(front + text).digest() + text

    def stream() -> Iterator[memoryview]:
        yield memoryview(front)
        position = len(front)
        for start, parts in zip(starts, sections.values(), strict=True):
            yield memoryview(bytes(data_start + start - position))
            yield from parts
            position = data_start + start + sum(part.nbytes for part in parts)
        yield memoryview(bytes(data_start + end - position))  # only if there are no sections

    return stream()


def open_layout(data: memoryview) -> Layout:
    """Check all but the sections' contents: prelude, header, section table, padding, size.

    Raises EngineFormatError, EngineVersionError.
    """
    version, header_bytes = _read_prelude(data)
    raw = data[PRELUDE.size : PRELUDE.size + header_bytes]
    check = hashlib.sha256(data[:_HASHED])
    check.update(raw)
    if check.digest() != data[_HASHED : PRELUDE.size]:
        raise EngineFormatError("does not match its SHA-256: the file is damaged; copy or build it again", "header")
    newer = version[1] > MINOR
    header = strict_json.parse(bytes(raw), "header", len(data))
    if not isinstance(header, dict) or "sections" not in header:
        raise EngineFormatError("wanted an object with the key 'sections'", "header")
    start = _align(PRELUDE.size + header_bytes, "weights")
    entries = strict_json.items(header["sections"], "sections", "header", _MAX_SECTIONS)
    sections: dict[str, Section] = {}
    end = 0
    for number, entry in enumerate(entries):
        section = _read_section(entry, f"sections[{number}]", start, newer)
        if section.name in sections:
            raise EngineFormatError(f"section {section.name!r} is there twice", "header")
        wanted = start + _align(end, section.name)
        if section.offset != wanted:
            raise EngineFormatError(
                f"section {section.name!r} starts at byte {section.offset}, wanted {wanted}: "
                "sections follow one another, aligned",
                "header",
            )
        end = section.offset + section.length - start
        sections[section.name] = section
    if start + end != len(data):
        raise EngineFormatError(f"its sections end at byte {start + end}, the file at {len(data)}", "header")
    _check_padding(data, PRELUDE.size + header_bytes, sections.values())
    return Layout(version, header, header_bytes, len(data), sections)


def _read_prelude(data: memoryview) -> tuple[tuple[int, int], int]:
    """The file's version and its header's length, checked against the file's size."""
    start = bytes(data[:16])
    if start[:8] != MAGIC:
        if sum(a == b for a, b in zip(start, MAGIC, strict=False)) >= 5:
            raise EngineFormatError(f"is damaged: it starts with {start[:8]!r}, wanted {MAGIC!r}", "prelude")
        kind = what_it_is(start)
        shown = f"it looks like {kind}" if kind else f"it starts with {start[:8]!r}, an engine with {MAGIC!r}"
        raise EngineFormatError(f"is not a trine engine: {shown if start else 'it is empty'}", "file")
    if len(data) < PRELUDE.size:
        raise EngineFormatError(f"is cut short: {len(data)} bytes; the prelude alone has {PRELUDE.size}", "prelude")
    _, major, minor, flags, header_bytes, file_bytes, _ = PRELUDE.unpack(data[: PRELUDE.size])
    if major > MAJOR:
        raise EngineVersionError(
            f"format version {major}.{minor} is newer than this trine reads ({MAJOR}.x): upgrade trine "
            "(pip install --upgrade trine), or build the engine again with this one",
            "prelude",
        )
    if major != MAJOR or flags:
        raise EngineFormatError(
            f"is damaged: got version {major}.{minor} with flags {flags:#x}, wanted {MAJOR}.x with 0",
            "prelude",
        )
    if file_bytes != len(data):
        how = "cut short" if len(data) < file_bytes else "longer than it says"
        raise EngineFormatError(f"is {how}: it has {len(data)} bytes, wanted {file_bytes}; copy it again", "file")
    if not 2 <= header_bytes <= min(strict_json.MAX_JSON_BYTES, len(data) - PRELUDE.size):
        raise EngineFormatError(f"is damaged: a header of {header_bytes} bytes cannot be in this file", "prelude")
    return (major, minor), header_bytes


def _read_section(entry: Any, where: str, start: int, newer: bool) -> Section:
    keys = ("name", "offset", "length", "sha256")
    entry = strict_json.record(entry, where, "header", keys, allow_unknown=newer)
    name = strict_json.text(entry["name"], f"{where}.name", "header", _MAX_NAME, empty=False)
    offset = strict_json.integer(entry["offset"], f"{where}.offset", "header")
    length = strict_json.integer(entry["length"], f"{where}.length", "header")
    chunks = -(-length // CHUNK)
    digests = strict_json.items(entry["sha256"], f"{where}.sha256", "header", chunks)
    if len(digests) != chunks:
        raise EngineFormatError(f"{where}.sha256: {len(digests)} entries, wanted {chunks}, one per 4 MiB", "header")
    for digest in digests:
        if not (isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
            raise EngineFormatError(f"{where}.sha256: wanted 64 lower-case hexadecimal digits", "header")
    return Section(name, start + offset, length, tuple(digests))


def _check_padding(data: memoryview, end: int, sections: Iterable[Section]) -> None:
    for section in sections:
        if any(data[end : section.offset]):
            raise EngineFormatError(f"bytes {end} to {section.offset} must be zero: the file is damaged", "padding")
        end = section.offset + section.length
    if any(data[end:]):
        raise EngineFormatError(f"bytes from {end} must be zero: the file is damaged", "padding")


def verify_section(data: memoryview, section: Section) -> None:
    """Hash the section's 4 MiB chunks, several threads at once if there are many.

    Raises EngineFormatError, naming the section, if one differs.
    """
    content = data[section.offset : section.offset + section.length]
    if len(section.sha256) < 4:
        found = [hashlib.sha256(content[at : at + CHUNK]).hexdigest() for at in range(0, section.length, CHUNK)]
    else:
        from concurrent.futures import ThreadPoolExecutor  # imported late: small engines start sooner without

        def digest(at: int) -> str:
            return hashlib.sha256(content[at : at + CHUNK]).hexdigest()  # releases the GIL

        threads = min(len(section.sha256) // 2, os.cpu_count() or 1, 8)
        with ThreadPoolExecutor(threads, "trine-checksum") as pool:
            found = list(pool.map(digest, range(0, section.length, CHUNK)))
    for number, (got, wanted) in enumerate(zip(found, section.sha256, strict=True)):
        if got != wanted:
            first, last = number * CHUNK, min((number + 1) * CHUNK, section.length)
            raise EngineFormatError(
                f"does not match its SHA-256 in bytes {first} to {last}: the file is damaged; copy or build it again",
                section.name,
            )


def _chunk_hashes(parts: Parts) -> list[Any]:
    """A SHA-256 for each CHUNK of the joined parts, without joining them."""
    hashes: list[Any] = []
    room = 0
    for part in parts:
        while part:
            if not room:
                hashes.append(hashlib.sha256())
                room = CHUNK
            piece, part = part[:room], part[room:]
            hashes[-1].update(piece)
            room -= len(piece)
    return hashes


def _align(position: int, name: str) -> int:
    """Weights start on a page, so that a mapping of them suits any kernel; the others on 64 bytes."""
    unit = PAGE if name == "weights" else _ALIGNMENT
    return -(-position // unit) * unit
