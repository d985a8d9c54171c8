"""Plans as bytes: what is written is read, and what is damaged is refused by one exception."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, X, Y, answer, changed, path, plan, rows_of

from trine.errors import EngineFormatError
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.parameters import Addresses, pack_parameters
from trine.runtime.cuda.plan import Kernel, LaunchRecord
from trine.runtime.cuda.plan_bytes import plan_from_bytes, plan_to_bytes

MAP = {
    "base": ["arena", 16],
    "dtype": "fp16",
    "shape": [1, 5, 6, 8],
    "strides": [240, 48, 8, 1],
    "box": [1, 1, 2, 8],
    "swizzle": 32,
    "im2col": {"lower": [-1, -1], "upper": [0, 0], "channels": 8, "pixels": 64, "steps": [1, 2, 2, 1]},
}


def rich_plan():
    """With every kind of argument."""
    sample = plan(1, 4)
    takes = ("tensormap", "i64", "fp32", "pointer")
    kernel = Kernel("map", "map", b"code 3", 9000, 128, takes, 2, (2, 1, 1), waits=True)
    launch = LaunchRecord(
        3, (2, 3, 4), (("tensormap", MAP), ("i64", -(2**40)), ("fp32", float("-inf")), ("arena", 0)), (), (), 0, (4, 8)
    )
    buckets = [replace(each, launches=(*each.launches, launch)) for each in sample.buckets]
    buckets[1] = replace(buckets[1], early=True)
    return replace(sample, kernels=(*sample.kernels, kernel), buckets=tuple(buckets))


SAMPLE = rich_plan()
DATA = plan_to_bytes(SAMPLE)


def test_round_trip():
    found = plan_from_bytes(DATA)
    assert found == SAMPLE
    assert plan_to_bytes(found) == DATA


def test_weights_are_a_view_on_a_multiple_of_256():
    data = np.frombuffer(DATA, np.uint8)
    view = np.frombuffer(plan_from_bytes(memoryview(DATA)).weights, np.uint8)
    assert np.shares_memory(view, data)
    assert (view.ctypes.data - data.ctypes.data) % 256 == 0


def test_machine_code_is_no_larger_than_it_says():
    """However much a few bytes would become."""
    bomb = replace(SAMPLE, kernels=(replace(SAMPLE.kernels[0], cubin=bytes(1 << 24)), *SAMPLE.kernels[1:]))
    data = plan_to_bytes(bomb)
    assert len(data) < 1 << 17
    assert plan_from_bytes(data) == bomb
    with pytest.raises(EngineFormatError, match="machine code of more than 10 bytes, not 9"):
        plan_from_bytes(changed(data, path("kernels", 0, "cubin_bytes")(9)))


def test_a_plan_that_was_read_runs():
    executor = CudaExecutor(plan_from_bytes(plan_to_bytes(plan())), (X,), (Y,), driver=RecordingDriver(STAND_INS))
    x = rows_of(3)
    np.testing.assert_array_equal(executor.open_session().run([x], [None])[0], answer(x))


def shared_weight(**fields):
    return {"offset": 256, "name": "w", "shape": [5, 5], "axes": [1, 0], "nbytes": 100, **fields}


LAUNCH = ("buckets", 0, "launches", 0)
DAMAGES = {
    "kernel of none": path(*LAUNCH, "kernel")(9),
    "grid of none": path(*LAUNCH, "grid")([0, 1, 1]),
    "grid of two": path(*LAUNCH, "grid")([1, 1]),
    "input of none": path(*LAUNCH, "arguments", 0)(["input", 1, 0]),
    "negative input": path(*LAUNCH, "arguments", 0)(["input", -1, 0]),
    "arena past its end": path(*LAUNCH, "arguments", 1)(["arena", 1 << 20]),
    "unknown place": path(*LAUNCH, "arguments", 1)(["host", 0]),
    "too few arguments": path(*LAUNCH, "arguments")([["arena", 0]]),
    "number for a pointer": path(*LAUNCH, "arguments", 1)(["i32", 0]),
    "pointer for a number": path(*LAUNCH, "arguments", 2)(["arena", 0]),
    "rows too many": path(*LAUNCH, "arguments", 2)(["rows", 2**31]),
    "i32 too large": path("buckets", 0, "launches", 1, "arguments", 3)(["i32", 2**31]),
    "i32 that is none": path("buckets", 0, "launches", 1, "arguments", 3)(["i32", float("inf")]),
    "fp32 too large": path("buckets", 0, "launches", 3, "arguments", 2)(["fp32", 1e39]),
    "tensor map of six axes": path("buckets", 0, "launches", 3, "arguments", 0, 1, "shape")([1] * 6),
    "tensor map of fp64": path("buckets", 0, "launches", 3, "arguments", 0, 1, "dtype")("fp64"),
    "tensor map without strides": path("buckets", 0, "launches", 3, "arguments", 0, 1, "strides")([]),
    "group of none": path(*LAUNCH, "group")(77),
    "waits, a number": path("kernels", 3, "waits")(1),
    "fetches beyond the weights": path("buckets", 0, "launches", 3, "ahead")([8, 1 << 20]),
    "fetches from nowhere": path("buckets", 0, "launches", 3, "ahead")([1 << 20, 0]),
    "early, a word": path("buckets", 1, "early")("no"),
    "no buckets": path("buckets")([]),
    "bucket of no rows": path("buckets", 0, "rows")(0),
    "buckets out of order": path("buckets", 0, "rows")(5),
    "weights outside": path("weights")([0, 1 << 40]),
    "cubin outside": path("kernels", 0, "cubin")([-256, 10]),
    "cubin larger than it is": path("kernels", 0, "cubin_bytes")(1 << 20),
    "cubin larger than any": path("kernels", 0, "cubin_bytes")(1 << 40),
    "cubin that is none": path("kernels", 0, "cubin")([0, 7]),
    "weight that leaves a gap": path("shared")([shared_weight(offset=512)]),
    "weight off the grid": path("shared")([shared_weight(offset=8)]),
    "weights over one another": path("shared")([shared_weight(), shared_weight()]),
    "weight with an axis twice": path("shared")([shared_weight(axes=[0, 0])]),
    "no threads": path("kernels", 0, "threads")(0),
    "unknown parameter": path("kernels", 0, "parameters")(["texture"]),
    "unknown dtype": path("inputs", 0, 1)("float12"),
    "versions that are a list": path("versions")([1]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_header_is_refused(damage):
    with pytest.raises(EngineFormatError, match="build the engine again") as caught:
        plan_from_bytes(changed(DATA, damage), "plan/cuda_sm_90")
    assert caught.value.section == "plan/cuda_sm_90"


@pytest.mark.parametrize("data", [b"", b"TRNCUDA1", b"nonsense" * 9, DATA[:40], b"TRNCUDA1" + bytes(8)])
def test_what_is_no_plan(data):
    with pytest.raises(EngineFormatError):
        plan_from_bytes(data)


def read_or_refuse(data):
    """EngineFormatError, or a plan that can be written again and whose parameters can be packed."""
    try:
        found = plan_from_bytes(data)
    except EngineFormatError:
        return
    again = plan_to_bytes(found)
    assert plan_to_bytes(plan_from_bytes(again)) == again
    for bucket in found.buckets:
        addresses = Addresses(1 << 20, 2 << 20, (3 << 20,), (4 << 20,), bucket.rows)
        for record in bucket.launches:
            pack_parameters(found.kernels[record.kernel], record, addresses, lambda *args: bytes(128))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bits(flips):
    data = bytearray(DATA)
    for place, mask in flips:
        data[place] ^= mask
    read_or_refuse(bytes(data))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(DATA) - 1))
def test_truncated(length):
    read_or_refuse(DATA[:length])


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=3), LEAVES, max_size=2)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_value_in_any_place_of_the_header(data):
    def change(fields):
        while True:
            keys = sorted(fields) if isinstance(fields, dict) else list(range(len(fields)))
            key = data.draw(st.sampled_from(keys))
            inner = fields[key]
            if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 4)) == 0:
                fields[key] = data.draw(VALUES)
                return
            fields = inner

    read_or_refuse(changed(DATA, change))
