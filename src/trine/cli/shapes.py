"""Shapes on the command line, as trtexec writes them, and the short form for batches.

--minShapes=input:1x3x224x224,mask:1x10      one shape for each named input
--shapes=1x3x224x224                         without a name: the only input
--shapes=scale:scalar                        rank 0
--batch=8   --batch=1:64   --batch=1:8:64    one size; min:max (tuned for max); min:opt:max
"""

from __future__ import annotations

from trine.errors import ConfigError

__all__ = ["Shape", "ShapeTriple", "parse_batch", "parse_shapes", "shape_ranges"]

Shape = tuple[int, ...]
ShapeTriple = tuple[Shape, Shape, Shape]

_FORM = "write NAME:DIMxDIMx…, with commas between inputs (input:1x3x224x224,mask:1x10)"


def parse_shapes(text: str) -> dict[str, Shape]:
    """``"input:1x3x224x224,mask:1x10"`` as shapes by name; "" is the name of one written without a name.

    Names may contain colons and be quoted, as trtexec allows ('a:0':1x3). Raises ConfigError.
    """
    shapes: dict[str, Shape] = {}
    for part in _split_outside_quotes(text):
        name, colon, dims = part.rpartition(":")
        name = name.strip().strip("'\"")
        if colon and not name:
            raise ConfigError(f"shape {part!r} has an empty input name; {_FORM}")
        if name in shapes:
            raise ConfigError(f"input {name!r} has two shapes in {text!r}; give it one")
        shapes[name] = _parse_dims(dims.strip(), part)
    if "" in shapes and len(shapes) > 1:
        raise ConfigError(f"{text!r} mixes shapes with and without an input's name; {_FORM}")
    return shapes


def _split_outside_quotes(text: str) -> list[str]:
    parts, quote = [""], ""
    for char in text:
        if char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        if char == "," and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _parse_dims(dims: str, part: str) -> Shape:
    if dims == "scalar":
        return ()
    numbers = dims.lower().split("x")
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise ConfigError(f"shape {part!r}: {dims!r} is no shape; {_FORM}")
    return tuple(int(number) for number in numbers)


def parse_batch(text: str) -> tuple[int, int, int]:
    """``"8"``, ``"1:64"`` or ``"1:8:64"`` as (min, opt, max). Raises ConfigError."""
    numbers = text.split(":")
    if not 1 <= len(numbers) <= 3 or not all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers):
        raise ConfigError(f"batch {text!r}: write SIZE, MIN:MAX or MIN:OPT:MAX (8, 1:64, 1:8:64)")
    sizes = [int(number) for number in numbers]
    low, mid, high = sizes[0], sizes[len(sizes) // 2], sizes[-1]
    if not 1 <= low <= mid <= high:
        raise ConfigError(f"batch {text!r}: expected 1 <= min <= opt <= max, got {low}, {mid}, {high}")
    return low, mid, high


def shape_ranges(
    minimum: dict[str, Shape] | None,
    optimum: dict[str, Shape] | None,
    maximum: dict[str, Shape] | None,
    fixed: dict[str, Shape] | None,
) -> dict[str, ShapeTriple] | None:
    """The four shape options as (min, opt, max) by input; None when none was given.

    As in trtexec, ``--shapes`` fixes an input, and what is missing of the three is taken from its neighbours:
    min from opt, opt from max and the reverse. Raises ConfigError when ranks or orders disagree.
    """
    given = [minimum or {}, optimum or {}, maximum or {}]
    names = list(dict.fromkeys(name for shapes in (*given, fixed or {}) for name in shapes))
    if not names:
        return None
    ranges: dict[str, ShapeTriple] = {}
    for name in names:
        label = f"input {name!r}" if name else "the input"
        low, mid, high = (shapes.get(name) for shapes in given)
        if fixed and name in fixed:
            if low is not None or mid is not None or high is not None:
                raise ConfigError(f"{label} has --shapes and a --min/opt/maxShapes; give one of the two")
            ranges[name] = (fixed[name],) * 3
            continue
        mid = mid if mid is not None else (high if high is not None else low)
        low = low if low is not None else mid
        high = high if high is not None else mid
        assert low is not None  # the name came from one of the three
        assert mid is not None
        assert high is not None
        if not len(low) == len(mid) == len(high):
            raise ConfigError(f"{label}: --minShapes {low}, --optShapes {mid}, --maxShapes {high} differ in rank")
        if not all(a <= b <= c for a, b, c in zip(low, mid, high, strict=True)):
            raise ConfigError(
                f"{label}: expected min <= opt <= max on every axis, got {low}, {mid}, {high};"
                " give all of --minShapes, --optShapes, --maxShapes"
            )
        ranges[name] = (low, mid, high)
    return ranges
