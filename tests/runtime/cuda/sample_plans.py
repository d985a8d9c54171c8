"""Small plans for tests, with what their kernels do in Python."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from runtime.cuda.recording_driver import RecordingDriver

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.runtime.cuda.plan import Bucket, CudaPlan, Kernel, LaunchRecord

WIDTH = 3  # elements of a row
X = TensorInfo("x", DataType.FLOAT32, ("batch", WIDTH))
Y = TensorInfo("y", DataType.FLOAT32, ("batch", WIDTH))

KERNELS = (
    Kernel("copy", "copy_in", b"code 0", 0, 128, ("pointer", "pointer", "i32")),
    Kernel("double", "double", b"code 1", 4096, 64, ("pointer", "pointer", "pointer", "i32"), null_pointers=1),
    Kernel("copy", "copy_out", b"code 2", 0, 128, ("pointer", "pointer", "i32"), null_pointers=0),
)


def address_of(value: bytes) -> int:
    assert len(value) == 8
    return int(struct.unpack("<Q", value)[0])


def number(value: bytes) -> int:
    assert len(value) == 4
    return int(struct.unpack("<i", value)[0])


def copy(driver: RecordingDriver, grid: Any, values: tuple[bytes, ...]) -> None:
    count = number(values[2])
    driver.array(address_of(values[1]), np.float32, count)[:] = driver.array(address_of(values[0]), np.float32, count)


def double(driver: RecordingDriver, grid: Any, values: tuple[bytes, ...]) -> None:
    """y = 2 x + w, of as many elements as the bucket has."""
    count = number(values[3])
    weight = driver.array(address_of(values[2]), np.float32, WIDTH)
    x = driver.array(address_of(values[0]), np.float32, count).reshape(-1, WIDTH)
    driver.array(address_of(values[1]), np.float32, count)[:] = (2 * x + weight).reshape(-1)


STAND_INS = {"copy_in": copy, "double": double, "copy_out": copy}


def bucket(rows: int) -> Bucket:
    """x to the arena, y = 2 x + w there, y to the caller."""
    nbytes = rows * WIDTH * 4
    x, y = ("arena", 0), ("arena", nbytes)
    x_span, y_span = ("arena", 0, nbytes), ("arena", nbytes, 2 * nbytes)
    return Bucket(
        rows,
        2 * nbytes,
        (
            LaunchRecord(
                0, (rows, 1, 1), (("input", 0, 0), x, ("rows", WIDTH)), (("input 0", 0, nbytes),), (x_span,), 0
            ),
            LaunchRecord(1, (1, 1, 1), (x, y, ("weight", 0), ("i32", rows * WIDTH)), (x_span,), (y_span,), 1),
            LaunchRecord(
                2, (rows, 1, 1), (y, ("output", 0, 0), ("rows", WIDTH)), (y_span,), (("output 0", 0, nbytes),), 2
            ),
        ),
        tuple(
            {"name": name, "kind": "Pointwise", "tactic": "t", "configuration": {}, "latency_us": us, "floor_us": 0.5}
            for name, us in (("in", 1.0), ("twice", None), ("out", 2.0))
        ),
    )


def plan(*rows: int) -> CudaPlan:
    weight = np.arange(WIDTH, dtype=np.float32)
    return CudaPlan(
        target="sm_90",
        precision="fp32",
        kernels=KERNELS,
        buckets=tuple(bucket(count) for count in rows or (1, 4)),
        weights=weight.tobytes() + bytes(256 - weight.nbytes),
        inputs=(((WIDTH,), "float32"),),
        outputs=(((WIDTH,), "float32"),),
        versions={"trine": "0.1.0"},
        device_name="NVIDIA H200",
    )


def answer(x: np.ndarray) -> np.ndarray:
    return 2 * x + np.arange(WIDTH, dtype=np.float32)


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)
