"""A TensorRT plan's bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import EngineFormatError
from trine.runtime.tensorrt.plan import TensorRTPlan

LAYER = {"name": "conv", "kind": "gemm", "tactic": "t", "inputs": ["x float 1x3"], "outputs": ["y"], "nodes": ["conv"]}
PLAN = TensorRTPlan("tensorrt_rtx", "1.7", "fp16", "sm_86", (LAYER,), b"\x00opaque\xff")


def test_is_read_as_it_was_written() -> None:
    found = TensorRTPlan.from_bytes(PLAN.to_bytes())
    assert dataclasses.replace(found, data=bytes(found.data)) == PLAN
    assert found.tactic == "tensorrt_rtx"


@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    good = bytearray(PLAN.to_bytes())
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.integers(0, len(good)))
    with contextlib.suppress(EngineFormatError):  # any other exception is a fault
        TensorRTPlan.from_bytes(bytes(good[:end]))


@pytest.mark.parametrize(
    "fields",
    [{"layers": 3}, {"layers": [{}]}, {"package": None}, {"version": 1}, {"layers": [{**LAYER, "inputs": 7}]}],
    ids=str,
)
def test_wrong_fields_are_refused(fields: dict[str, object]) -> None:
    whole = {"package": "a", "version": "b", "precision": "c", "target": "", "layers": [], **fields}
    header = json.dumps(whole).encode()
    with pytest.raises(EngineFormatError, match="build the engine again"):
        TensorRTPlan.from_bytes(b"TRNTRT01" + len(header).to_bytes(8, "little") + header)
