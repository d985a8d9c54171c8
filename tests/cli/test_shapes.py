from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.cli.shapes import parse_batch, parse_shapes, shape_ranges
from trine.errors import ConfigError

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
DIMS = st.lists(st.integers(0, 10**9), min_size=1, max_size=5).map(tuple)


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("input:1x3x224x224", {"input": (1, 3, 224, 224)}),
        ("input:1x3x224x224,mask:1x10", {"input": (1, 3, 224, 224), "mask": (1, 10)}),
        ("1x3x8x8", {"": (1, 3, 8, 8)}),
        ("ids:7", {"ids": (7,)}),
        ("scale:scalar", {"scale": ()}),
        ("'a:0':1x3", {"a:0": (1, 3)}),
        ("a:0:1x3", {"a:0": (1, 3)}),
        ("'a,b':2,c:3", {"a,b": (2,), "c": (3,)}),
        ("input:1X3", {"input": (1, 3)}),
    ],
)
def test_shapes_as_trtexec_writes_them(text: str, shapes: dict[str, tuple[int, ...]]) -> None:
    assert parse_shapes(text) == shapes


@given(st.dictionaries(NAMES, DIMS, min_size=1, max_size=4))
def test_shapes_are_read_as_they_were_written(shapes: dict[str, tuple[int, ...]]) -> None:
    text = ",".join(f"{name}:{'x'.join(map(str, dims))}" for name, dims in shapes.items())
    assert parse_shapes(text) == shapes


@given(st.text(max_size=40))
def test_any_text_gives_shapes_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert all(isinstance(dims, tuple) for dims in parse_shapes(text).values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("input:1x3xx4", "'1x3xx4' is no shape"),
        ("input:-1x3", "'-1x3' is no shape"),
        ("input:1x3,", "is no shape"),
        ("", "is no shape"),
        (":1x3", "empty input name"),
        ("a:1,a:2", "'a' has two shapes"),
        ("1x3,mask:1", "with and without"),
        ("a:99999999999999999999", "is no shape"),
    ],
)
def test_wrong_shapes_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_shapes(text)


@pytest.mark.parametrize(
    ("text", "batch"), [("8", (8, 8, 8)), ("1:64", (1, 64, 64)), ("1:8:64", (1, 8, 64)), ("2:2:2", (2, 2, 2))]
)
def test_batch(text: str, batch: tuple[int, int, int]) -> None:
    assert parse_batch(text) == batch


@pytest.mark.parametrize("text", ["", "0", "8:1", "1:2:3:4", "a", "1:9:8", "-1", "1.5", "٣"])
def test_wrong_batches(text: str) -> None:
    with pytest.raises(ConfigError, match="batch"):
        parse_batch(text)


def test_ranges_fill_in_what_is_missing() -> None:
    one, two, four = {"x": (1, 3)}, {"x": (2, 3)}, {"x": (4, 3)}
    assert shape_ranges(None, None, None, None) is None
    assert shape_ranges(one, two, four, None) == {"x": ((1, 3), (2, 3), (4, 3))}
    assert shape_ranges(one, None, four, None) == {"x": ((1, 3), (4, 3), (4, 3))}
    assert shape_ranges(None, two, None, None) == {"x": ((2, 3),) * 3}
    assert shape_ranges(None, None, None, two) == {"x": ((2, 3),) * 3}


def test_ranges_that_contradict_themselves() -> None:
    with pytest.raises(ConfigError, match="differ in rank"):
        shape_ranges({"x": (1,)}, {"x": (1, 2)}, None, None)
    with pytest.raises(ConfigError, match="min <= opt <= max"):
        shape_ranges({"x": (4, 3)}, {"x": (2, 3)}, None, None)
    with pytest.raises(ConfigError, match="give one of the two"):
        shape_ranges({"x": (4, 3)}, None, None, {"x": (4, 3)})
