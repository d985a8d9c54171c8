"""Parameters as the driver finds them."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.cuda.recording_driver import RecordingDriver, copied

from trine.runtime.cuda.parameters import Addresses, ParameterBlock, is_edge, pack_parameters
from trine.runtime.cuda.plan import Kernel, LaunchRecord

ADDRESSES = Addresses(arena=1 << 20, weights=2 << 20, inputs=(3 << 20, 4 << 20), outputs=(5 << 20,), rows=7)


def record(*arguments):
    return LaunchRecord(0, (1, 1, 1), arguments, (), (), 0)


def kernel(null_pointers=0, parameters=()):
    return Kernel("k", "k", b"", 0, 128, parameters, null_pointers)


def packed(*arguments, null_pointers=0):
    driver = RecordingDriver()
    block = pack_parameters(kernel(null_pointers), record(*arguments), ADDRESSES, driver.encode_tensor_map)
    return copied(block), driver


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        (("arena", 256), struct.pack("<Q", (1 << 20) + 256)),
        (("weight", 512), struct.pack("<Q", (2 << 20) + 512)),
        (("input", 1, 8), struct.pack("<Q", (4 << 20) + 8)),
        (("output", 0, 4), struct.pack("<Q", (5 << 20) + 4)),
        (("rows", 3), struct.pack("<i", 21)),
        (("i32", -5), struct.pack("<i", -5)),
        (("i64", 1 << 40), struct.pack("<q", 1 << 40)),
        (("fp32", 0.5), struct.pack("<f", 0.5)),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_each_kind(argument, value):
    assert packed(argument)[0] == (value,)


def test_null_pointers_end_the_list():
    assert packed(("i32", 1), null_pointers=2)[0] == (struct.pack("<i", 1), bytes(8), bytes(8))


@given(at=st.integers(0, 1 << 20), size=st.integers(1, 8 << 20), grid=st.tuples(*[st.integers(1, 40)] * 3))
def test_what_is_fetched_ahead_lies_inside_of_the_weight(at, size, grid):
    waiting = Kernel("k", "k", b"", 0, 128, (), 2, waits=True)
    launch = LaunchRecord(0, grid, (), (), (), 0, ahead=(at, size))
    address, pieces = copied(pack_parameters(waiting, launch, ADDRESSES, RecordingDriver().encode_tensor_map))
    start = struct.unpack("<Q", address)[0] - ADDRESSES.weights
    piece, count = struct.unpack("<II", pieces)
    assert start % 16 == piece % 16 == 0, "the instruction takes no others"
    assert piece < 1 << 20, "the instruction has no bits for more"
    assert at <= start < at + 16
    blocks = math.prod(grid)
    assert count <= blocks
    assert piece * count <= max(0, at + size - start)
    left = at + size - start - piece * count
    assert left < max(512, 16 * (blocks + 1)) or piece == (1 << 20) - 16


@pytest.mark.parametrize(
    ("pointers", "waits", "size"), [(2, False, 1 << 20), (1, True, 1 << 20), (2, True, 0), (2, True, 100 << 20)]
)
def test_launches_that_fetch_nothing(pointers, waits, size):
    kernel = Kernel("k", "k", b"", 0, 128, (), pointers, waits=waits)
    launch = LaunchRecord(0, (1, 1, 1), (), (), (), 0, ahead=(64, size))
    values = copied(pack_parameters(kernel, launch, ADDRESSES, RecordingDriver().encode_tensor_map))
    assert values == (bytes(8),) * kernel.null_pointers


def test_a_kernel_without_parameters_has_an_address_still():
    assert pack_parameters(kernel(), record(), ADDRESSES, RecordingDriver().encode_tensor_map).address != 0


def test_a_tensor_map_is_followed_by_shape_and_strides():
    description = {
        "base": ["input", 0, 64],
        "dtype": "fp16",
        "shape": [5, 8],
        "strides": [16, 1],
        "box": [2, 8],
        "swizzle": 0,
        "im2col": None,
    }
    values, driver = packed(("i32", 1), ("tensormap", description), ("fp32", 1.0))
    assert [len(value) for value in values] == [4, 128, 4, 4, 8, 8, 4]
    assert values[2:6] == (struct.pack("<i", 5), struct.pack("<i", 8), struct.pack("<q", 16), struct.pack("<q", 1))
    assert driver.calls == [("encode_tensor_map", description, (3 << 20) + 64)]


@given(st.lists(st.sampled_from([4, 8, 128]), max_size=12), st.integers(0, 255))
def test_values_are_aligned_and_kept(sizes, start):
    values = [bytes([(start + index) % 256]) * size for index, size in enumerate(sizes)]
    assert copied(ParameterBlock(values)) == tuple(values)  # which asserts the alignment


@pytest.mark.parametrize(
    ("argument", "edge"),
    [
        (("arena", 0), False),
        (("weight", 0), False),
        (("i32", 1), False),
        (("input", 0, 0), True),
        (("output", 0, 0), True),
        (("rows", 1), True),
        (("tensormap", {"base": ["arena", 0]}), False),
        (("tensormap", {"base": ["output", 0, 0]}), True),
    ],
)
def test_what_depends_on_the_call(argument, edge):
    assert is_edge(record(("arena", 0), argument)) is edge


def test_the_block_outlives_nothing_but_itself():
    block = pack_parameters(kernel(), record(("i32", 3)), ADDRESSES, RecordingDriver().encode_tensor_map)
    np.empty(1 << 16)  # other memory is taken and given back meanwhile
    assert copied(block) == (struct.pack("<i", 3),)
