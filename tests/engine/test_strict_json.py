"""JSON from anyone: refused unless plain, finite, without duplicates, and small in memory."""

from __future__ import annotations

import tracemalloc

import pytest

from trine.engine import strict_json
from trine.errors import EngineFormatError


def parse(data: bytes, file_bytes: int = 10_000) -> object:
    return strict_json.parse(data, "header", file_bytes)


@pytest.mark.parametrize("value", [{"a": [1, -2.5, None, True, '\u20ac\U0001f600 \\ud800 "']}, [], 5, "x", None])
def test_round_trip(value: object) -> None:
    assert parse(strict_json.dump(value)) == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[1] 2", "Extra data"),
        (b"NaN", "NaN is not allowed"),
        (b"[-Infinity]", "-Infinity is not allowed"),
        (b"1e999", "too large"),
        (b'{"a":1,"b":2,"a":3}', "same key twice"),
        (b'"\xff"', "codec can't decode"),
        (b'"\\ud800"', "surrogate"),
        (b'"\\\\\\uDFFF"', "surrogate"),
        (b"9" * 5000, "integer string conversion"),
        (b"[" * 100_000, "recursion"),
        (b"[" * 65 + b"]" * 65, "more than 64 deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "more than 64 deep"),
        (b" " * (strict_json.MAX_JSON_BYTES + 1), "at most 16777216 are allowed"),
    ],
    ids=range(15),
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(EngineFormatError, match=reason) as caught:
        parse(data, 10**9)
    assert caught.value.section == "header"


def test_depth_64_is_allowed() -> None:
    parse(b"[" * 64 + b"]" * 64)


@pytest.mark.parametrize(
    "unit",
    [b"[]", b"{}", b'{"a":0}', b"[[[[[]]]]]", b"1.5", b"123456789", '"\U0001f600"'.encode(), b'"%06x"', b'{"%06x":[]}'],
)
def test_memory_stays_below_the_estimate(unit: bytes) -> None:
    """The refusal is by an estimate made before parsing; this holds it against what parsing really takes."""
    count = 5_000
    units = (unit % number for number in range(count)) if b"%" in unit else [unit] * count
    data = b"[" + b",".join(units) + b"]"
    cost = sum(data.count(key) * cost for key, cost in strict_json._COSTS.items())
    estimate = len(data) * (3 if data.isascii() else 9) + cost
    tracemalloc.start()
    parse(data, 10**9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= estimate


def test_a_json_bomb_is_refused_before_it_is_parsed() -> None:
    data = b"[" + b"[]," * 2_000_000 + b"0]"
    tracemalloc.start()
    with pytest.raises(EngineFormatError, match="of memory to read"):
        parse(data, len(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


@pytest.mark.parametrize("value", [float("nan"), "\ud800", {1, 2}])
def test_dump_refuses(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        strict_json.dump(value)
