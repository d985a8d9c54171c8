"""JSON that may come from anyone: bounded in size, memory and depth; no duplicate keys, no NaN.

Whatever is wrong raises EngineFormatError naming the section, and nothing else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from trine.errors import EngineFormatError

__all__ = ["MAX_DEPTH", "MAX_JSON_BYTES", "check_budget", "dump", "integer", "items", "parse", "record", "text"]

MAX_JSON_BYTES = 16 * 2**20
MAX_DEPTH = 64
_MEMORY_FLOOR = 20 * 2**20
# What parsed JSON takes for each of these characters, at most; measured on CPython 3.11 to 3.13.
_COSTS = {b"{": 130, b"[": 90, b",": 72, b":": 130}
# An odd number of backslashes, then a surrogate: half a character, which no UTF-8 file can hold.
_SURROGATE = re.compile(r"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]")


def dump(value: object) -> bytes:
    """Compact UTF-8. Raises ValueError for NaN and lone surrogates, TypeError for what JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def check_budget(data: bytes, section: str, file_bytes: int) -> None:
    """Refuse JSON that is too long, or whose parsed form could outgrow the file's size by tens of MB.

    20 MiB + an eighth of the file is room for some 10,000 weights in a small file, more in a larger one.
    """
    if len(data) > MAX_JSON_BYTES:
        raise EngineFormatError(f"is {len(data)} bytes long; at most {MAX_JSON_BYTES} are allowed", section)
    memory = len(data) * (3 if data.isascii() else 9) + sum(data.count(key) * cost for key, cost in _COSTS.items())
    budget = _MEMORY_FLOOR + file_bytes // 8
    if memory > budget:
        raise EngineFormatError(
            f"would take about {memory} bytes of memory to read; {budget} are allowed for this file", section
        )


def parse(data: bytes, section: str, file_bytes: int) -> Any:
    """The value in ``data``. Raises EngineFormatError for anything but small, plain, finite JSON."""
    check_budget(data, section, file_bytes)
    try:
        decoded = data.decode()
        if _SURROGATE.search(decoded):
            raise ValueError("it has a surrogate escape; write the character itself in UTF-8")
        value = json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as err:
        raise EngineFormatError(f"is not valid JSON: {err}", section) from err
    _check_depth(value, section)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"the number {number[:40]} is too large")
    return value


def _check_depth(value: Any, section: str) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for node in level:
            children = node.values() if isinstance(node, dict) else node
            deeper += [child for child in children if isinstance(child, (dict, list))]
        if not deeper:
            return
        level = deeper
    raise EngineFormatError(f"is nested more than {MAX_DEPTH} deep", section)


def record(
    value: Any, where: str, section: str, required: Collection[str], *, allow_unknown: bool = False
) -> dict[str, Any]:
    """``value`` if it is an object with just these keys (more, if ``allow_unknown``)."""
    if not isinstance(value, dict):
        raise EngineFormatError(f"{where}: got {_kind(value)}, wanted an object", section)
    missing = [key for key in required if key not in value]
    if missing:
        raise EngineFormatError(f"{where}: {', '.join(missing)} missing", section)
    extra = [] if allow_unknown else [key for key in value if key not in required]
    if extra:
        raise EngineFormatError(f"{where}: unknown key {extra[0][:80]!r}", section)
    return value


def items(value: Any, where: str, section: str, most: int) -> list[Any]:
    """``value`` if it is a list of at most ``most``."""
    if not isinstance(value, list):
        raise EngineFormatError(f"{where}: got {_kind(value)}, wanted a list", section)
    if len(value) > most:
        raise EngineFormatError(f"{where}: {len(value)} entries; at most {most} are allowed", section)
    return value


def text(value: Any, where: str, section: str, most: int = 1024, *, empty: bool = True) -> str:
    """``value`` if it is a string of at most ``most`` characters without NUL."""
    if not isinstance(value, str):
        raise EngineFormatError(f"{where}: got {_kind(value)}, wanted a string", section)
    if len(value) > most or "\0" in value or not (value or empty):
        raise EngineFormatError(
            f"{where}: got {value[:40]!r}, {len(value)} characters; wanted {0 if empty else 1} to {most} without NUL",
            section,
        )
    return value


def integer(value: Any, where: str, section: str) -> int:
    """``value`` if it is a whole number from 0 to 2**63 - 1."""
    if type(value) is not int or not 0 <= value < 2**63:  # bool is an int, too
        shown = value if type(value) is int and abs(value) < 2**80 else _kind(value)
        raise EngineFormatError(f"{where}: got {shown}, wanted a whole number from 0 to 2**63 - 1", section)
    return value


def _kind(value: Any) -> str:
    names: Mapping[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
