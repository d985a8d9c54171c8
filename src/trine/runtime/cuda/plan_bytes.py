"""A CudaPlan as bytes, and back: a JSON header of known length, then cubins, deflated, and weights, each on 256 bytes.

    8 bytes   magic "TRNCUDA1"
    8 bytes   length of the header, little-endian
    header    JSON: everything but cubins and weights, which it names by (offset, length) from the end of the header's
              padding
    blobs

Nothing in it is executed while reading; every offset, size and index is checked before use.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from trine.dtypes import DataType
from trine.errors import EngineFormatError
from trine.runtime.cuda.cpu_part_bytes import parts_fields, read_parts, read_steps
from trine.runtime.cuda.plan import WEIGHT_ALIGNMENT, Bucket, CpuPart, CudaPlan, Kernel, LaunchRecord, SharedWeight

__all__ = ["plan_from_bytes", "plan_to_bytes"]

_MAGIC = b"TRNCUDA1"
_MAX_HEADER = 256 << 20
_MAX_CUBINS = 48 << 20  # of all kernels; what eight networks have takes a tenth
_INTEGERS = {"i32": 31, "i64": 63}
_MAX_FP32 = 3.4028234663852886e38
_POINTERS = ("arena", "weight", "input", "output")
_MAP_RANK = 5  # of a TMA descriptor, at most


def plan_to_bytes(plan: CudaPlan) -> bytes:
    """As the engine file stores it."""
    blobs: list[bytes | memoryview] = []
    end = 0

    def keep(data: bytes | memoryview) -> list[int]:
        nonlocal end
        offset = end
        blobs.append(data)
        padding = -len(data) % WEIGHT_ALIGNMENT
        blobs.append(bytes(padding))
        end += len(data) + padding
        return [offset, len(data)]

    weights = keep(memoryview(plan.weights).cast("B"))
    kernels = [
        {
            **_kernel_fields(kernel),
            "cubin": keep(zlib.compress(kernel.cubin, 9)),
            "cubin_bytes": len(kernel.cubin),
        }
        for kernel in plan.kernels
    ]
    # Only plans that leave something to the CPU say so.
    parts = {"cpu_parts": parts_fields(plan.cpu_parts, keep)} if plan.cpu_parts else {}
    header = json.dumps(
        {
            "target": plan.target,
            "precision": plan.precision,
            "kernels": kernels,
            "buckets": [_bucket_fields(bucket) for bucket in plan.buckets],
            "weights": weights,
            "shared": [asdict(each) for each in plan.shared],
            "inputs": plan.inputs,
            "outputs": plan.outputs,
            "rows_vary": plan.rows_vary,
            "versions": dict(plan.versions),
            "device_name": plan.device_name,
            **parts,
        },
        separators=(",", ":"),
    ).encode()
    start = len(_MAGIC) + 8 + len(header)
    return b"".join([_MAGIC, len(header).to_bytes(8, "little"), header, bytes(-start % WEIGHT_ALIGNMENT), *blobs])


def _kernel_fields(kernel: Kernel) -> dict[str, Any]:
    fields = asdict(replace(kernel, cubin=b""))
    if not kernel.waits:
        del fields["waits"]
    return fields


def _bucket_fields(bucket: Bucket) -> dict[str, Any]:
    fields = asdict(bucket)
    if not bucket.cpu_steps:
        del fields["cpu_steps"]
    if not bucket.early:
        del fields["early"]
    for launch in fields["launches"]:
        if not launch["ahead"][1]:
            del launch["ahead"]
    return fields


def plan_from_bytes(data: bytes | memoryview, section: str = "plan/cuda") -> CudaPlan:
    """What ``plan_to_bytes`` wrote; weights are views of ``data``, not copies.

    Raises EngineFormatError for anything else.
    """
    view = memoryview(data).cast("B")
    try:
        return _read(view)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as err:
        text = " ".join(str(err).split())[:200]
        raise EngineFormatError(
            f"damaged plan ({type(err).__name__}: {text}); build the engine again", section
        ) from err


def _read(view: memoryview) -> CudaPlan:
    if bytes(view[:8]) != _MAGIC:
        raise ValueError(f"expected the magic {_MAGIC.decode()}")
    length = int.from_bytes(view[8:16], "little")
    if not 0 < length <= min(_MAX_HEADER, len(view) - 16):
        raise ValueError(f"header of {length} bytes in a section of {len(view)}")
    fields: dict[str, Any] = json.loads(bytes(view[16 : 16 + length]))
    start = 16 + length + (-(16 + length) % WEIGHT_ALIGNMENT)

    def blob(place: Any) -> memoryview:
        offset, size = place
        if not (
            isinstance(offset, int) and isinstance(size, int) and 0 <= offset <= offset + size <= len(view) - start
        ):
            raise ValueError(f"bytes {offset} to {size} more lie outside of the section")
        return view[start + offset : start + offset + size]

    kernels = tuple(_kernel(each, blob) for each in fields["kernels"])
    if sum(len(kernel.cubin) for kernel in kernels) > _MAX_CUBINS:
        raise ValueError(f"more than {_MAX_CUBINS} bytes of machine code")
    weights = blob(fields["weights"])
    shared = _shared(fields["shared"], len(weights))
    weight_bytes = len(weights) + sum(each.end - each.offset for each in shared)
    parts = read_parts(fields.get("cpu_parts", ()), blob, _natural)
    inputs = tuple((_shape(shape), DataType(dtype).value) for shape, dtype in fields["inputs"])
    outputs = tuple(
        (None if shape is None and parts else _shape(shape), DataType(dtype).value)
        for shape, dtype in fields["outputs"]
    )
    rows_vary = bool(fields["rows_vary"])
    if rows_vary and any(shape is None for shape, _ in outputs):
        raise ValueError("rows vary, and the shape of an output depends on values")
    edges = _Edges(kernels, weight_bytes, inputs, outputs, rows_vary, parts)
    buckets = tuple(_bucket(each, edges) for each in fields["buckets"])
    rows = [bucket.rows for bucket in buckets]
    if not rows or rows[0] < 1 or rows != sorted(set(rows)):
        raise ValueError(f"buckets for {rows} rows")
    return CudaPlan(
        target=str(fields["target"]),
        precision=str(fields["precision"]),
        kernels=kernels,
        buckets=buckets,
        weights=weights,
        inputs=inputs,
        outputs=outputs,
        rows_vary=rows_vary,
        versions={str(key): str(value) for key, value in fields["versions"].items()},
        device_name=str(fields["device_name"]),
        cpu_parts=parts,
        shared=shared,
    )


def _shared(fields: Any, own: int) -> tuple[SharedWeight, ...]:
    """``own``: bytes of the weights that lie in the plan, which fill the gaps."""
    found: list[SharedWeight] = []
    at = gaps = 0
    for each in fields:
        axes = tuple(_natural(axis, 7) for axis in each["axes"])
        shape = _shape(each["shape"])
        weight = SharedWeight(_natural(each["offset"]), str(each["name"]), shape, axes, _natural(each["nbytes"]))
        gaps += weight.offset - at
        if weight.offset < at or weight.offset % WEIGHT_ALIGNMENT or gaps > own or sorted(axes) != [*range(len(shape))]:
            raise ValueError(f"weight {weight.name!r} at {weight.offset}, axes {axes} of {shape}")
        at = weight.end
        found.append(weight)
    return tuple(found)


@dataclass(frozen=True)
class _Edges:
    """What buckets refer to."""

    kernels: tuple[Kernel, ...]
    weight_bytes: int
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    outputs: tuple[tuple[tuple[int, ...] | None, str], ...]
    rows_vary: bool
    parts: tuple[CpuPart, ...]


def _shape(dims: Any) -> tuple[int, ...]:
    return tuple(_natural(n) for n in dims)


def _inflated(data: memoryview, size: int) -> bytes:
    """Never more than ``size`` bytes, whatever ``data`` would become."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, size + 1)
    except zlib.error as err:
        raise ValueError(f"machine code: {err}") from err
    if len(found) != size or not stream.eof:
        raise ValueError(f"machine code of {'more than ' * (not stream.eof)}{len(found)} bytes, not {size}")
    return found


def _natural(value: Any, limit: int = 2**62) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ValueError(f"expected a whole number from 0 to {limit}, got {value!r}")
    return value


def _stretch(fields: Any, limit: int) -> tuple[int, int]:
    offset, size = fields
    return _natural(offset, limit), _natural(size, limit - offset)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def _positive(value: Any, limit: int) -> int:
    return _natural(value - 1, limit - 1) + 1


def _kernel(fields: dict[str, Any], blob: Any) -> Kernel:
    kinds = tuple(str(kind) for kind in fields["parameters"])
    if not set(kinds) <= {"pointer", "i32", "i64", "fp32", "tensormap"}:
        raise ValueError(f"parameters {kinds}")
    cluster = tuple(_positive(n, 16) for n in fields["cluster"])
    return Kernel(
        name=str(fields["name"]),
        symbol=str(fields["symbol"]),
        cubin=_inflated(blob(fields["cubin"]), _natural(fields["cubin_bytes"], _MAX_CUBINS)),
        shared_bytes=_natural(fields["shared_bytes"], 1 << 20),
        threads=_positive(fields["threads"], 1024),
        parameters=kinds,
        null_pointers=_natural(fields["null_pointers"], 8),
        cluster=(cluster[0], cluster[1], cluster[2]),
        waits=_truth(fields.get("waits", False)),
    )


def _bucket(fields: dict[str, Any], edges: _Edges) -> Bucket:
    kernels = edges.kernels
    rows, arena = _natural(fields["rows"], 2**31 - 1), _natural(fields["arena_bytes"])
    limits = {"arena": arena, "weight": edges.weight_bytes}
    counts = {"input": len(edges.inputs), "output": len(edges.outputs)}
    groups = tuple(dict(group) for group in fields["groups"])

    def address(place: Any) -> tuple[Any, ...]:
        kind = place[0]
        if kind in limits:
            return (kind, _natural(place[1], limits[kind]))
        number = _natural(place[1], counts[kind] - 1)
        if kind == "output" and edges.outputs[number][0] is None:
            raise ValueError(f"a kernel writes output {number}, whose shape depends on values")
        return (kind, number, _natural(place[2]))

    def argument(each: Any, wanted: str) -> tuple[Any, ...]:
        kind, value = each[0], each[1]
        if wanted != ("pointer" if kind in _POINTERS else "i32" if kind == "rows" else kind):
            raise ValueError(f"{kind!r} is given for a parameter that is {wanted!r}")
        if kind in _INTEGERS:
            half = 2 ** _INTEGERS[kind]
            return (kind, _natural(value + half, 2 * half - 1) - half)
        if kind == "fp32":
            return (kind, _single(value))
        if kind == "rows":
            return (kind, _natural(value, (2**31 - 1) // max(rows, 1)))
        if kind == "tensormap":
            return (kind, {"base": list(address(value["base"])), **_tensor_map(value)})
        return address(each)

    launches = []
    for each in fields["launches"]:
        kernel = kernels[_natural(each["kernel"], len(kernels) - 1)]
        if len(each["arguments"]) != len(kernel.parameters):
            raise ValueError(f"{kernel.name} takes {kernel.parameters}, a launch gives {len(each['arguments'])}")
        pairs = zip(each["arguments"], kernel.parameters, strict=True)
        arguments = tuple(argument(value, kind) for value, kind in pairs)
        grid = [_positive(n, 2**31 - 1) for n in each["grid"]]
        launches.append(
            LaunchRecord(
                kernel=each["kernel"],
                grid=(grid[0], grid[1], grid[2]),
                arguments=arguments,
                reads=tuple((str(p), _natural(a), _natural(b)) for p, a, b in each["reads"]),
                writes=tuple((str(p), _natural(a), _natural(b)) for p, a, b in each["writes"]),
                group=_natural(each["group"], max(len(groups) - 1, 0)),
                ahead=_stretch(each.get("ahead", (0, 0)), edges.weight_bytes),
            )
        )
    sizes = {"rows": rows, "arena": arena, "launches": len(launches), "groups": len(groups)}
    steps = read_steps(
        fields.get("cpu_steps", ()), edges.parts, sizes, (edges.inputs, edges.outputs), edges.rows_vary, _natural
    )
    given = [edge.place[1] for step in steps for edge in step.outputs if edge.place[0] == "output"]
    if not {number for number, (shape, _) in enumerate(edges.outputs) if shape is None} <= set(given):
        raise ValueError(f"the CPU gives outputs {given}, and others have no shape")
    return Bucket(rows, arena, tuple(launches), groups, steps, _truth(fields.get("early", False)))


def _single(value: Any) -> float:
    number = float(value)
    if math.isfinite(number) and abs(number) > _MAX_FP32:
        raise ValueError(f"{value!r} is no fp32")
    return number


def _tensor_map(fields: dict[str, Any]) -> dict[str, Any]:
    rank = _positive(len(fields["shape"]), _MAP_RANK)
    row = {name: [_natural(n, 2**40) for n in fields[name]] for name in ("shape", "strides", "box")}
    if fields["dtype"] not in ("fp32", "fp16", "bf16", "int8", "uint8") or fields["swizzle"] not in (0, 32, 64, 128):
        raise ValueError(f"tensor map of {fields['dtype']!r}, swizzle {fields['swizzle']!r}")
    if max(row["shape"]) >= 2**31:
        raise ValueError(f"tensor map of shape {row['shape']}")
    im2col = fields["im2col"]
    if im2col is not None:
        corners = {name: [int(n) for n in im2col[name]] for name in ("lower", "upper")}
        if any(len(corner) != rank - 2 or max(map(abs, corner), default=0) > 2**15 for corner in corners.values()):
            raise ValueError(f"corners {corners} of a descriptor with {rank} axes")
        sizes = {"channels": _positive(im2col["channels"], 256), "pixels": _positive(im2col["pixels"], 1024)}
        steps = [_positive(n, 8) for n in im2col["steps"]]
        if len(steps) != rank:
            raise ValueError(f"steps {steps} of a descriptor with {rank} axes")
        im2col = {**corners, **sizes, "steps": steps}
    elif len(row["box"]) != rank:
        raise ValueError(f"box {row['box']} of shape {row['shape']}")
    if len(row["strides"]) != rank:
        raise ValueError(f"strides {row['strides']} of shape {row['shape']}")
    return {"dtype": fields["dtype"], **row, "swizzle": fields["swizzle"], "im2col": im2col}
