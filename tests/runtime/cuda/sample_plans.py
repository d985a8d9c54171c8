"""Small plans for tests, with what their kernels do in Python."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from runtime.cuda.recording_driver import RecordingDriver

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.profile import ShapeRange
from trine.runtime.context import ExecutionContext
from trine.runtime.cuda.executor import CudaExecutor
from trine.runtime.cuda.plan import Bucket, CpuEdge, CpuPart, CpuStep, CudaPlan, Kernel, LaunchRecord

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


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    """A plan's bytes with other fields in its header."""
    length = int.from_bytes(data[8:16], "little")
    fields = json.loads(data[16 : 16 + length])
    blobs = data[16 + length + (-(16 + length) % 256) :]
    change(fields)
    header = json.dumps(fields).encode()
    start = 16 + len(header)
    return data[:8] + len(header).to_bytes(8, "little") + header + bytes(-start % 256) + blobs


def path(*keys: Any) -> Callable[[Any], Callable[[Any], None]]:
    """A change of one value of a header."""

    def to(value: Any) -> Callable[[Any], None]:
        def change(fields: Any) -> None:
            for key in keys[:-1]:
                fields = fields[key]
            fields[keys[-1]] = value

        return change

    return to


def cpu_part(body: str = "y = Neg(x)", inputs: str = "float[r,c] x", outputs: str = "float[r,c] y") -> CpuPart:
    """Of ONNX's text; without weights, all in fp32."""
    text = f'<ir_version: 10, opset_import: ["" : 20]>\npart ({inputs}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    names = [[value.name for value in values] for values in (proto.graph.input, proto.graph.output)]
    nodes = tuple({"name": node.output[0], "op": node.op_type, "reason": "no kernels"} for node in proto.graph.node)
    edges = [tuple((name, "float32") for name in each) for each in names]
    return CpuPart(proto.SerializeToString(), (), edges[0], edges[1], nodes)


def plan_with_cpu(*rows: int, part: CpuPart | None = None) -> CudaPlan:
    """As ``plan``; behind the second launch the CPU makes -y of y."""
    sample = plan(*rows)
    buckets = []
    for each in sample.buckets:
        y = ("arena", each.rows * WIDTH * 4)
        shape = (each.rows, WIDTH)
        step = CpuStep(0, 2, (CpuEdge(y, shape, (0, 1)),), (CpuEdge(y, shape),), 1)
        buckets.append(replace(each, cpu_steps=(step,)))
    return replace(sample, buckets=tuple(buckets), cpu_parts=(part or cpu_part(),))


def context_on(driver: RecordingDriver) -> ExecutionContext:
    """Of an engine with ``plan()``, on ``driver``."""
    executor = CudaExecutor(plan(), (X,), (Y,), driver=driver)
    return ExecutionContext(executor, (X,), (Y,), {"x": ShapeRange((1, WIDTH), (2, WIDTH), (16, WIDTH))})
