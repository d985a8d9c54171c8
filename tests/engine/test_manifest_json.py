"""The manifest survives JSON; whatever else the JSON says is an EngineFormatError("manifest")."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from engine_samples import sample_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from trine.engine.manifest import Manifest
from trine.engine.manifest_json import manifest_from_json, manifest_to_json
from trine.engine.strict_json import MAX_DEPTH, dump, parse
from trine.errors import ConfigError, EngineFormatError


def as_json(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(manifest_to_json(sample_manifest())))
    return {**value, **changes}


def test_round_trip() -> None:
    assert manifest_from_json(as_json()) == sample_manifest()


def test_no_field_is_forgotten() -> None:
    assert set(manifest_to_json(sample_manifest())) == {field.name for field in dataclasses.fields(Manifest)}
    for field in dataclasses.fields(Manifest):
        assert getattr(sample_manifest(), field.name), f"fill {field.name} in the sample"


def test_numpy_numbers_and_tuples_become_plain_and_non_finite_numbers_text() -> None:
    evidence = {"rows": (np.float32(0.5), np.int64(3), np.bool_(True)), "worst": float("nan"), "most": np.inf}
    value = manifest_to_json(dataclasses.replace(sample_manifest(), evidence=evidence))
    assert value["evidence"] == {"rows": [0.5, 3, True], "worst": "nan", "most": "inf"}
    assert float(value["evidence"]["worst"]) != 0


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"a": [{1, 2}]}, r"evidence\.a\[0\] is a set"),
        ({1: 2}, "evidence is a dict; wanted JSON: objects with string keys"),
        ({"a": np.zeros(2)}, r"evidence\.a is a ndarray"),
    ],
)
def test_what_json_cannot_hold_is_named(part: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        manifest_to_json(dataclasses.replace(sample_manifest(), evidence=part))


def test_what_can_be_read_can_be_written() -> None:
    deepest: list[Any] = []
    for _ in range(MAX_DEPTH - 2):  # it is in build, which is in the manifest
        deepest = [deepest]
    manifest = dataclasses.replace(sample_manifest(), build={"x": deepest[0]})
    assert parse(dump(manifest_to_json(manifest)), "manifest", 0)
    with pytest.raises(EngineFormatError, match="more than 64 deep"):
        parse(dump({**as_json(), "build": {"x": deepest}}), "manifest", 0)
    with pytest.raises(ConfigError, match="at most 63 deep"):
        manifest_to_json(dataclasses.replace(manifest, build={"x": deepest}))


def test_endless_nesting_is_refused_when_writing() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ConfigError, match="at most 63 deep"):
        manifest_to_json(dataclasses.replace(sample_manifest(), build={"x": loop}))


X = {"name": "x", "dtype": "float32", "shape": ["batch", 24]}
RANGE = {"min": [1, 24], "opt": [8, 24], "max": [64, 24]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": 1}, "name: got a number, wanted a string"),
        ({"name": "a" * 1025}, "1025 characters"),
        ({"source": "a\0b"}, "without NUL"),
        ({"inputs": {}}, "inputs: got an object, wanted a list"),
        ({"inputs": [X, X]}, "inputs: two have the same name"),
        ({"inputs": [{**X, "name": ""}]}, r"inputs\[0\].name"),
        ({"inputs": [{**X, "dtype": "float33"}]}, "dtype 'float33' is unknown; known: float32"),
        ({"inputs": [{**X, "dtype": "torch.float32"}]}, "unknown"),
        ({"inputs": [{**X, "dtype": []}]}, "dtype: got a list"),
        ({"inputs": [{**X, "shape": [1.0]}]}, "shape: got a number, wanted a whole number"),
        ({"inputs": [{**X, "shape": [True]}]}, "shape: got true or false"),
        ({"inputs": [{**X, "shape": [-1]}]}, "shape: got -1"),
        ({"inputs": [{**X, "shape": [2**63]}]}, "shape: got 9223372036854775808"),
        ({"inputs": [{**X, "shape": [1] * 65}]}, "65 entries; at most 64"),
        ({"inputs": [{**X, "shape": [None]}]}, "shape: got null"),
        ({"inputs": [{**X, "more": 1}]}, "unknown key 'more'"),
        ({"inputs": [{"name": "x"}]}, "dtype, shape missing"),
        ({"inputs": [7]}, r"inputs\[0\]: got a number, wanted an object"),
        ({"inputs": [X] * 5000}, "at most 4096"),
        ({"outputs": []}, "at least one"),
        ({"outputs": None}, "outputs: got null"),
        ({"profile": {"z": RANGE}}, "profile.z: there is no such input"),
        ({"profile": {"x": {**RANGE, "max": [1]}}}, "min .* opt .* differ in rank"),
        ({"profile": {"x": {"min": [1], "opt": [1], "max": [1]}}}, "1 dimensions, but the input has 2"),
        ({"profile": {"x": {**RANGE, "min": [9, 24]}}}, "expected 0 <= min <= opt <= max"),
        ({"profile": {"x": {**RANGE, "min": 1}}}, "profile.x.min: got a number"),
        ({"profile": []}, "profile: got a list"),
        ({"precision": ""}, "precision: got '', 0 characters"),
        ({"created": 5}, "created"),
        ({"versions": {"trine": 1}}, "versions.trine: got a number"),
        ({"versions": None}, "versions: got null"),
        ({"evidence": [1]}, "evidence: got a list"),
        ({"build": None}, "build: got null"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_malformed_parts_are_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineFormatError, match=reason) as caught:
        manifest_from_json(as_json(**changes))
    assert caught.value.section == "manifest"


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [[]], True])
def test_what_is_no_manifest_at_all(value: Any) -> None:
    with pytest.raises(EngineFormatError, match="manifest"):
        manifest_from_json(value)


@pytest.mark.parametrize("key", manifest_to_json(sample_manifest()))
def test_every_key_is_required(key: str) -> None:
    value = as_json()
    del value[key]
    with pytest.raises(EngineFormatError, match=f"{key} missing"):
        manifest_from_json(value)


def test_keys_of_a_newer_minor_version_are_skipped() -> None:
    value = as_json(added="later", inputs=[{**X, "layout": "NHWC"}], profile={"x": {**RANGE, "weight": 2}})
    assert manifest_from_json(value, allow_unknown=True) == sample_manifest()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_value_anywhere_is_accepted_or_refused_cleanly(data: st.DataObject) -> None:
    value = copy.deepcopy(as_json())
    node: Any = value
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        if not (isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans())):
            break
        node = node[key]
    node[key] = data.draw(JSON)
    with contextlib.suppress(EngineFormatError):
        manifest = manifest_from_json(value)
        assert manifest_from_json(manifest_to_json(manifest)) == manifest
