"""Nested inputs and outputs: described, rebuilt, flattened, and refused when a file's spec is not sane."""

from __future__ import annotations

import dataclasses
import json
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine import structure
from trine.errors import EngineFormatError, InputError, ModelImportError

Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass
class Out:
    logits: Any
    aux: Any = None


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def array(value: float = 0.0) -> np.ndarray:
    return np.full(2, value)


def test_names_follow_the_path() -> None:
    spec, leaves = structure.describe({"a": array(1), "b": (array(2), [array(3), None])}, is_array, "x")
    assert list(leaves) == ["x.a", "x.b.0", "x.b.1.0"]
    assert structure.leaf_names(spec) == list(leaves)


def test_a_value_survives_json() -> None:
    value = {"d": Out(array(1), Pair(array(2), 3)), 4: [True, None, "s", 1.5], "inf": float("-inf")}
    spec, leaves = structure.describe(value, is_array, "")
    spec = structure.spec_from_json(json.loads(json.dumps(spec, allow_nan=False)), list(leaves))
    again = structure.rebuild(spec, leaves)
    assert list(again) == ["d", 4, "inf"]
    assert type(again["d"]).__name__ == "Out"
    assert again["d"].logits is value["d"].logits  # type: ignore[attr-defined]
    assert again["d"]["logits"] is again["d"].logits
    assert again["d"].aux._fields == ("left", "right")
    assert again["d"].aux.right == 3
    assert again[4] == [True, None, "s", 1.5]
    assert again["inf"] == float("-inf")
    with pytest.raises(KeyError):
        again["d"]["nothing"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1, 2}, "'x' is a builtins.set; expected a tensor"),
        ({(1, 2): 3}, r"'x' is a dict with the key \(1, 2\) of type tuple; use str or int keys"),
        ({"a.b": array(), "a": {"b": array()}}, "two tensors would both be called 'x.a.b'"),
    ],
)
def test_other_values_are_refused(value: Any, text: str) -> None:
    with pytest.raises(ModelImportError, match=text):
        structure.describe(value, is_array, "x")


def parameter(name: str, form: str, value: Any) -> dict[str, Any]:
    return {"name": name, "form": form, "value": structure.describe(value, is_array, name)[0]}


CALL = {
    "kind": "call",
    "parameters": [
        parameter("x", "positional_only", array()),
        parameter("y", "positional", {"k": array()}),
        parameter("scale", "positional", 2.0),
        parameter("flag", "keyword", True),
    ],
}


def test_calls_are_flattened_by_position_and_by_name() -> None:
    x, y = array(1), array(2)
    for args, kwargs in [
        ((x, {"k": y}), {}),
        ((x,), {"y": {"k": y}}),
        ((x, {"k": y}, 2.0), {"flag": True}),
        ((x, {"k": y}), {"scale": 2.0}),
    ]:
        leaves = structure.flatten_call(CALL, args, kwargs)
        assert list(leaves) == ["x", "y.k"]
        assert leaves["x"] is x
        assert leaves["y.k"] is y
    assert structure.rebuild_call(CALL, leaves) == ((x, {"k": y}, 2.0), {"flag": True})


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "argument 'x' is missing; the engine takes x, y, scale, flag"),
        ((array(),), {}, "argument 'y' is missing"),
        ((), {"x": array(), "y": {"k": array()}}, "argument 'x' is missing"),
        ((array(), array()), {}, "'y' is a ndarray; expected a dict with 'k'"),
        ((array(), {"j": array()}), {}, "'y': missing 'k'; unknown 'j'; expected the keys 'k'"),
        ((array(), {"k": None}), {}, r"'y.k' is None; expected an array"),
        ((array(), {"k": array()}, 3.0), {}, "'scale' is 3.0, but the engine was built with 2.0"),
        ((array(), {"k": array()}), {"flag": 1}, "'flag' is 1, but the engine was built with True"),
        ((array(), {"k": array()}), {"z": 1}, "argument.* 'z' unknown"),
        ((array(), {"k": array()}, 2.0, 1, 2), {}, "2 positional argument.* too many: got 5"),
        ((array(), {"k": array()}), {"y": {"k": array()}}, "'y' was given twice"),
    ],
)
def test_wrong_calls_are_refused(args: Any, kwargs: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        structure.flatten_call(CALL, args, kwargs)


def test_star_and_double_star() -> None:
    spec = {
        "kind": "call",
        "parameters": [
            parameter("rest", "star", (array(), array())),
            {"name": "more", "form": "double_star", "value": structure.describe({"a": array()}, is_array, "")[0]},
        ],
    }
    leaves = structure.flatten_call(spec, (array(1), array(2)), {"a": array(3)})
    assert list(leaves) == ["rest.0", "rest.1", "a"]
    args, kwargs = structure.rebuild_call(spec, leaves)
    assert len(args) == 2
    assert list(kwargs) == ["a"]
    with pytest.raises(InputError, match="'rest' has 1 items; expected 2"):
        structure.flatten_call(spec, (array(),), {"a": array()})
    with pytest.raises(InputError, match="missing 'a'"):
        structure.flatten_call(spec, (array(), array()), {})


def test_a_call_comes_back_from_json() -> None:
    assert structure.spec_from_json(json.loads(json.dumps(CALL)), ["x", "y.k"], call=True) == CALL


LEAF = {"kind": "tensor", "name": "x"}


@pytest.mark.parametrize(
    "obj",
    [
        None,
        [],
        {"kind": "pickle"},
        {"kind": "tensor", "name": 3},
        {"kind": "tensor", "name": "other"},
        {"kind": "tensor", "name": "x", "extra": 1},
        {"kind": "constant", "value": [1]},
        {"kind": "float", "value": "1e3"},
        {"kind": "tuple", "items": [LEAF, LEAF]},
        {"kind": "tuple", "items": LEAF},
        {"kind": "dict", "keys": ["a"], "items": []},
        {"kind": "dict", "keys": ["a", "a"], "items": [LEAF, {"kind": "constant", "value": 1}]},
        {"kind": "dict", "keys": [None], "items": [LEAF]},
        {"kind": "dataclass", "type": "A", "keys": ["class"], "items": [LEAF]},
        {"kind": "dataclass", "type": "A", "keys": ["__init__"], "items": [LEAF]},
        {"kind": "dataclass", "type": "A b", "keys": ["a"], "items": [LEAF]},
        {"kind": "dataclass", "type": 3, "keys": ["a"], "items": [LEAF]},
        {"kind": "namedtuple", "type": "A", "keys": ["_a"], "items": [LEAF]},
        {"kind": "call", "parameters": []},
    ],
)
def test_specs_from_files_are_checked(obj: Any) -> None:
    with pytest.raises(EngineFormatError, match="manifest: structure"):
        structure.spec_from_json(obj, ["x"])


@pytest.mark.parametrize(
    "obj",
    [
        LEAF,
        {"kind": "call", "parameters": {}},
        {"kind": "call", "parameters": [{"name": "x", "form": "magic", "value": LEAF}]},
        {"kind": "call", "parameters": [{"name": "x", "form": "star", "value": LEAF}]},
        {"kind": "call", "parameters": [{"name": 1, "form": "keyword", "value": LEAF}]},
        {"kind": "call", "parameters": [{"kind": "call", "parameters": []}]},
    ],
)
def test_calls_from_files_are_checked(obj: Any) -> None:
    with pytest.raises(EngineFormatError, match="manifest: structure"):
        structure.spec_from_json(obj, ["x"], call=True)


def test_hostile_nesting_is_refused() -> None:
    obj: Any = LEAF
    for _ in range(100):
        obj = {"kind": "tuple", "items": [obj]}
    with pytest.raises(EngineFormatError):
        structure.spec_from_json(obj, ["x"])


constants = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.floats(allow_nan=False)
values = st.recursive(
    constants | st.builds(array, st.floats(-1, 1)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text("abc", min_size=1, max_size=2) | st.integers(0, 3), inner, max_size=3)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=8,
)


@given(values)
def test_whatever_is_described_is_rebuilt(value: Any) -> None:
    spec, leaves = structure.describe(value, is_array, "v")
    spec = structure.spec_from_json(json.loads(json.dumps(spec, allow_nan=False)), list(leaves))
    again, _ = structure.describe(structure.rebuild(spec, leaves), is_array, "v")
    assert again == spec


def test_a_transformers_cache_says_how_to_leave_it_out() -> None:
    cache = type("DynamicCache", (), {"__module__": "transformers.cache_utils"})()
    with pytest.raises(ModelImportError, match="use_cache=False"):
        structure.describe({"past_key_values": cache}, lambda value: False, "")
