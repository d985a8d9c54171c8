"""How fuzz_engine_file.py damages an engine file.

``mutate_bytes`` knows nothing of the format but where its sections are. ``mutate_structure`` takes a file apart,
changes what it says, and puts it together with right checksums, so that the checks behind them are reached.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.container import MAGIC, PRELUDE, open_layout
from trine.engine.format import engine_to_bytes
from trine.engine.manifest import Manifest, TensorInfo
from trine.engine.onnx_wire import model_with_initializers, raw_tensor
from trine.engine.portable_graph import PortableGraph, Weight
from trine.profile import OptimizationProfile, ShapeRange

__all__ = ["Case", "mutate_bytes", "mutate_structure", "sample_engine"]

NUMBERS = [0, 1, -1, 2, 63, 64, 65, 4095, 4096, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 10**30]
VALUES = [
    *NUMBERS,
    None,
    True,
    False,
    0.5,
    1e308,
    "",
    "x",
    "\0",
    "\u20ac\U0001f600",
    "a" * 5000,
    [],
    {},
    [[]],
    {"a": {}},
]
RAW = [
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-", b"{", b"]", b"\\ud800", b'"\\ud83d\\ude00"', b"\xff\xfe",
    b'{"a":1,"a":2}', b"9" * 5000, b"[" * 2000, b"[" * 50 + b"]" * 50, b"[" * 90 + b"]" * 90, b'"\\u0000"',
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A mutated file; ``sections``: an error must name one of these (empty: any)."""

    kind: str
    data: bytes
    sections: tuple[str, ...] = ()


def sample_engine() -> bytes:
    """A small engine with everything a file can have: packed and empty weights, a plan, evidence, other scripts."""
    rng = np.random.default_rng(0)
    weights = (
        Weight.from_array("w", rng.standard_normal((16, 24), dtype=np.float32)),
        Weight("packed", DataType.INT4, (5, 7), rng.integers(0, 256, 18, np.uint8)),
        Weight.from_array("empty", np.empty((0, 3), np.int64)),
        Weight.from_array("gewicht\u00df", rng.integers(-9, 9, 300, np.int64)),
    )
    # A small initializer and an opset import are graph enough: what reads the graph is not under test here.
    bias = raw_tensor("b", 1, [2], memoryview(bytes(8)))
    model = model_with_initializers(b"\x08\x0a\x42\x04\x0a\x00\x10\x14", [bias])
    manifest = Manifest(
        name="sample",
        source="made by hand",
        inputs=(TensorInfo("x", DataType.FLOAT32, ("batch", 16)), TensorInfo("ids", DataType.INT64, (3,))),
        outputs=(TensorInfo("y", DataType.BFLOAT16, ("batch", 24)),),
        profile=OptimizationProfile({"x": ShapeRange((1, 16), (8, 16), (64, 16)), "ids": ShapeRange((3,), (3,), (3,))}),
        input_structure={"args": [{"tensor": "x"}], "kwargs": {"ids": {"tensor": "ids"}}},
        created="2026-01-01T00:00:00Z",
        versions={"trine": "0.1.0"},
        evidence={"passed": True, "rows": [{"output": "y", "relative_error": 1.5e-7}]},
        build={"stages": [{"name": "import", "seconds": 0.25}], "nodes_before": 3},
    )
    return engine_to_bytes(manifest, PortableGraph(model, weights), {"cpu": bytes(range(200))})


# Bytes.


def mutate_bytes(data: bytes, rng: Random) -> Case:
    """One to three changes to the bytes; the checksums stay as they were."""
    if rng.random() < 0.4:
        return _flip_bit(data, rng)
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(BYTE_CHANGES)
        data = change(data, rng)
        names.append(change.__name__.strip("_"))
    return Case(f"bytes: {names[0]}" if len(names) == 1 else "bytes: several", data)


def _flip_bit(data: bytes, rng: Random) -> Case:
    layout = open_layout(memoryview(data))
    # Half of the flips anywhere, where padding prevails; half in a section chosen first.
    position = rng.randrange(len(data))
    if rng.random() < 0.5:
        spans = [(0, PRELUDE.size), (PRELUDE.size, PRELUDE.size + layout.header_bytes)]
        spans += [(s.offset, s.offset + s.length) for s in layout.sections.values()]
        position = rng.randrange(*rng.choice(spans))
    changed = bytearray(data)
    changed[position] ^= 1 << rng.randrange(8)
    return Case("bytes: flip_bit", bytes(changed), sections_at(layout, position))


def sections_at(layout: Any, position: int) -> tuple[str, ...]:
    """What an error about the byte at ``position`` may be called."""
    if position < PRELUDE.size:
        return ("file", "prelude", "header")  # the prelude holds the file's size and the header's SHA-256
    if position < PRELUDE.size + layout.header_bytes:
        return ("header",)
    for section in layout.sections.values():
        if section.offset <= position < section.offset + section.length:
            return (section.name,)
    return ("padding",)


def _set_bytes(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 8, 64))) + data[at + 1 :]


def _truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.choice((rng.randrange(len(data) + 1), rng.randrange(100), len(data) - 1))]


def _extend(data: bytes, rng: Random) -> bytes:
    return data + rng.choice((b"\0", b"\0" * 64, rng.randbytes(100), data))


def _insert(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(1, 200)) + data[at:]


def _delete(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.randrange(1, 500) :]


def _splice(data: bytes, rng: Random) -> bytes:
    start, to, length = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1), rng.randrange(1, 300)
    piece = data[start : start + length]
    return data[:to] + piece + data[to + len(piece) :]


def _length_field(data: bytes, rng: Random) -> bytes:
    at, code = rng.choice(((8, "<H"), (10, "<H"), (12, "<I"), (16, "<Q"), (24, "<Q")))
    size = struct.calcsize(code)
    number = rng.choice([*NUMBERS, len(data), len(data) + 1, len(data) - 64, rng.getrandbits(64)])
    return data[:at] + struct.pack(code, number % 2 ** (8 * size)) + data[at + size :]


def _other_file(data: bytes, rng: Random) -> bytes:
    starts = (b"PK\x03\x04", b"\x80\x02}q", b"\x08\x0a\x12\x07pytorch", b"<?xml", b"\x1f\x8b", MAGIC, b"")
    return rng.choice(starts) + rng.randbytes(rng.randrange(300))


BYTE_CHANGES: list[Callable[[bytes, Random], bytes]] = [
    _set_bytes, _truncate, _extend, _insert, _delete, _splice, _length_field, _other_file
]  # fmt: skip


# Structure.


def mutate_structure(data: bytes, rng: Random) -> Case:
    """Change the header, the manifest, the graph or a section, and make offsets and checksums right again."""
    layout = open_layout(memoryview(data))
    contents = {s.name: data[s.offset : s.offset + s.length] for s in layout.sections.values()}
    header = json.loads(data[PRELUDE.size : PRELUDE.size + layout.header_bytes])
    kind = rng.choice(("header", "header", "weights_table", "manifest", "manifest", "graph", "sections", "raw", "bomb"))
    if kind == "bomb" and rng.random() < 0.9:
        kind = "prelude"
    minor = rng.choice((0, 0, 0, 1))
    if kind == "manifest":
        contents["manifest"] = _dump(_change_json(json.loads(contents["manifest"]), rng))
    elif kind == "weights_table":
        header["weights"] = _change_json(header["weights"], rng)
    elif kind == "graph":
        contents["graph"] = rng.choice(BYTE_CHANGES)(contents["graph"], rng)
    elif kind == "sections":
        contents = _change_sections(contents, rng)
    header_text = None
    if kind == "header":
        header_text = _dump(_change_json(_with_table(header, contents), rng))
    elif kind in ("raw", "bomb"):
        target = rng.choice(("manifest", "header"))
        text = contents["manifest"] if target == "manifest" else _dump(_with_table(header, contents))
        text = _raw(text, rng) if kind == "raw" else _bomb(rng)
        if target == "manifest":
            contents["manifest"] = text
        else:
            header_text = text
    if header_text is None:
        header_text = _dump(_with_table(header, contents))
    return Case(f"structure: {kind}", _assemble(header_text, contents, minor, rng if kind == "prelude" else None))


def _change_json(value: Any, rng: Random) -> Any:
    """The value with one to three places changed: removed, repeated, renamed, or given another value."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        queue = [value]
        while queue:
            node = queue.pop()
            entries = list(node.items() if isinstance(node, dict) else enumerate(node))
            places += [(node, key) for key, _ in entries]
            queue += [child for _, child in entries if isinstance(child, (dict, list))]
        if not places:
            return rng.choice(VALUES)
        node, key = rng.choice(places)
        what = rng.randrange(6)
        if what == 0:
            del node[key]
        elif what == 1 and isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
        elif what == 1:
            node[rng.choice(("x", "extra", "name", "\u20ac"))] = node.pop(key)
        elif what == 2 and type(node[key]) is int:
            node[key] += rng.choice((-1, 1, 64, -64, 4096))
        elif what == 3:
            other, other_key = rng.choice(places)
            if other_key in other if isinstance(other, dict) else other_key < len(other):
                node[key] = copy.deepcopy(other[other_key])
        else:
            node[key] = copy.deepcopy(rng.choice(VALUES))
    return value if rng.random() > 0.01 else rng.choice(VALUES)


def _change_sections(contents: dict[str, bytes], rng: Random) -> dict[str, bytes]:
    names = list(contents)
    name = rng.choice(names)
    what = rng.randrange(6)
    if what == 0:
        del contents[name]
    elif what == 1:
        contents[rng.choice(("plan/x", "new", "plan/", "weights2", "plan/\u20ac", "a" * 100))] = rng.randbytes(50)
    elif what == 2:
        rng.shuffle(names)
        contents = {key: contents[key] for key in names}
    elif what == 3:
        contents[name] = b""
    elif what == 4:
        contents[name] = contents[name] + rng.randbytes(rng.randrange(1, 100))
    else:
        contents[name] = rng.choice(BYTE_CHANGES)(contents[name], rng)
    return contents


def _raw(text: bytes, rng: Random) -> bytes:
    """Something that a JSON writer would not write, in place of a value or anywhere."""
    at = rng.randrange(len(text) + 1)
    if rng.random() < 0.5 and b":" in text[at:]:
        at = text.index(b":", at) + 1
    return text[:at] + rng.choice(RAW) + text[at + rng.choice((0, 0, 1)) :]


def _bomb(rng: Random) -> bytes:
    """JSON that would take many times its size in memory."""
    unit = rng.choice((b"[],", b"{},", b'{"a":0},', b'"\xf0\x9f\x98\x80",', b"[[[[]]]],", b"1.5,"))
    size = rng.choice((100_000, 500_000, 2_000_000))
    return b'{"sections":[' + unit * (size // len(unit)) + b"0]}"


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


def _align(position: int, unit: int) -> int:
    return -(-position // unit) * unit


def _with_table(header: dict[str, Any], contents: dict[str, bytes]) -> dict[str, Any]:
    table, end = [], 0
    for name, content in contents.items():
        start = _align(end, 4096 if name == "weights" else 64)
        end = start + len(content)
        digests = [hashlib.sha256(content).hexdigest()] if content else []
        table.append({"name": name, "offset": start, "length": len(content), "sha256": digests})
    return {**header, "sections": table}


def _assemble(header: bytes, contents: dict[str, bytes], minor: int, rng: Random | None) -> bytes:
    """A file with right sizes and checksums around any header; with ``rng``, one prelude field is changed."""
    body = b""
    for name, content in contents.items():
        body = body.ljust(_align(len(body), 4096 if name == "weights" else 64), b"\0") + content
    start = _align(PRELUDE.size + len(header), 4096)
    fields = [MAGIC, 1, minor, 0, len(header), start + len(body)]
    if rng:
        field, limit = rng.choice(((1, 2**16), (2, 2**16), (3, 2**32), (4, 2**64), (5, 2**64)))
        fields[field] = rng.choice([*NUMBERS, fields[field] + 1, fields[field] - 1]) % limit
    front = PRELUDE.pack(*fields, b"")[:-32]
    front += hashlib.sha256(front + header).digest() + header
    return front.ljust(start, b"\0") + body
