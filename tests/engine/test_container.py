"""Damage anywhere in a file is found and named; so are lies about its sections; newer versions say what to do."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_samples import (
    ENTRY,
    SOUND,
    assert_is_sample,
    make,
    refused,
    sample_manifest,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trine.engine import container, strict_json
from trine.engine.format import read_engine
from trine.engine.manifest_json import manifest_to_json
from trine.errors import EngineFormatError, EngineVersionError

ROOT = Path(__file__).parents[2]
LAYOUT = container.open_layout(memoryview(SOUND))
HEADER = range(container.PRELUDE.size, container.PRELUDE.size + LAYOUT.header_bytes)


def test_a_flipped_bit_is_found_in_its_section() -> None:
    """Every byte but the padding's, and of that every 50th."""
    names = dict.fromkeys(range(container.PRELUDE.size), ("file", "prelude", "header"))
    names |= dict.fromkeys(HEADER, ("header",))
    for section in LAYOUT.sections.values():
        names |= dict.fromkeys(range(section.offset, section.offset + section.length), (section.name,))
    padding = [at for at in range(len(SOUND)) if at not in names]
    assert {name for found in names.values() for name in found} >= {"manifest", "graph", "weights", "plan/cpu"}
    names |= dict.fromkeys(padding[::50] + padding[-1:], ("padding",))
    for at, wanted in names.items():
        damaged = bytearray(SOUND)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(EngineFormatError) as caught:
            read_engine(damaged)
        assert caught.value.section in wanted, f"byte {at}"


def test_every_truncation_and_any_addition_is_refused() -> None:
    for length in [*range(0, 200), *range(200, len(SOUND), 101), len(SOUND) - 1]:
        refused(SOUND[:length], "cut short|empty|not a trine engine|damaged")
    for more in (b"\0", b"x", SOUND):
        refused(SOUND + more, "longer than it says", "file")


@pytest.mark.parametrize(("offset", "size"), [(16, 8), (24, 8)])
@pytest.mark.parametrize("number", [0, 1, 63, 2**31, 2**63, 2**64 - 1])
def test_impossible_lengths_in_the_prelude(offset: int, size: int, number: int) -> None:
    refused(SOUND[:offset] + number.to_bytes(size, "little") + SOUND[offset + size :], "damaged|cut short|longer")


@pytest.mark.slow
def test_2000_mutated_files(tmp_path: Path) -> None:
    """The fuzzer that is described in its own file; benchmarks/results has the figures of 100,000."""
    script = ROOT / "benchmarks" / "fuzz_engine_file.py"
    command = [sys.executable, str(script), "--count", "2000", "--seed", "1", "--out", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(SOUND)), st.integers(0, 300))
@example(b"", 0, 0)
@example(SOUND[:64], 0, 64)
def test_any_patch_is_refused_or_changes_nothing(patch: bytes, at: int, removed: int) -> None:
    changed = SOUND[:at] + patch + SOUND[at + removed :]
    if changed == SOUND:
        assert_is_sample(read_engine(changed))
    else:
        with pytest.raises(EngineFormatError):
            read_engine(changed)


# Lies with right checksums.


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["manifest", "graph"], "wanted sections manifest, graph, weights first"),
        (["graph", "manifest", "weights"], "first; got graph"),
        ([], "first; got"),
        (["manifest", "graph", "weights", "more"], "unknown section 'more'"),
        (["manifest", "graph", "weights", "plan/"], "plan name 'plan/'"),
        (["manifest", "graph", "weights", "plan/../x"], "plan name"),
    ],
)
def test_sections_that_do_not_belong(names: list[str], reason: str) -> None:
    sections = {name: [memoryview(b"{}")] for name in names}
    refused(b"".join(container.encode({"weights": []}, sections)), reason, "header")


def with_header(change: Callable[[dict[str, Any]], None]) -> bytes:
    """The sound file with another section table, its size and header checksum made right."""
    header = strict_json.parse(SOUND[HEADER.start : HEADER.stop], "header", len(SOUND))
    change(header)
    text = strict_json.dump(header)
    body = SOUND[LAYOUT.sections["manifest"].offset :]
    start = -(-(container.PRELUDE.size + len(text)) // 4096) * 4096
    front = container.PRELUDE.pack(container.MAGIC, 1, 0, 0, len(text), start + len(body), b"")[:-32]
    return (front + hashlib.sha256(front + text).digest() + text).ljust(start, b"\0") + body


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("offset", 0, "starts at byte 4096, wanted"),
        ("offset", 2**62, "wanted"),
        ("length", 2**62, "sha256: 1 entries, wanted"),
        ("length", 0, "1 entries; at most 0"),
        ("length", True, "length: got true or false"),
        ("sha256", [], "0 entries, wanted 1"),
        ("sha256", ["A" * 64], "lower-case hexadecimal"),
        ("sha256", [7], "lower-case hexadecimal"),
        ("sha256", "a" * 64, "got a string"),
        ("name", "manifest", "is there twice"),
        ("name", "n" * 65, "65 characters"),
        ("more", 1, "unknown key 'more'"),
    ],
)
def test_a_lying_table_of_sections(key: str, value: Any, reason: str) -> None:
    refused(with_header(lambda header: header["sections"][1].update({key: value})), reason, "header")


# Versions.


def test_a_newer_format_says_what_to_do() -> None:
    error = refused(SOUND[:8] + b"\x02\x00" + SOUND[10:], "newer than this trine reads.*upgrade trine", "prelude")
    assert isinstance(error, EngineVersionError)


def test_what_a_newer_minor_version_added_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = strict_json.dump({**manifest_to_json(sample_manifest()), "added": 1})
    newer = {"weights": [{**ENTRY, "added": 1}], "manifest": manifest, "extra": b"section", "plan/cpu": b"x"}
    refused(make(**newer), "unknown section 'extra'", "header")
    monkeypatch.setattr(container, "MINOR", 1)
    data = make(**newer)
    monkeypatch.undo()
    contents = read_engine(data)
    assert contents.manifest == sample_manifest()
    assert list(contents.plans) == ["cpu"]
    assert contents.layout.version == (1, 1)
