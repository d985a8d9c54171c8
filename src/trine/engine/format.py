"""Engine files: what goes in, what comes out. FORMAT.md is the specification; container.py has the bytes.

write_engine(path, manifest, graph, plans)      atomic, streamed
engine_to_bytes(manifest, graph, plans)         the same bytes in memory
read_engine(path or bytes)                      memory-mapped, checked; weights are views, never copies
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import numpy as np

from trine.dtypes import DataType
from trine.engine import container, strict_json
from trine.engine.atomic_write import write_atomically
from trine.engine.manifest import Manifest
from trine.engine.manifest_json import dtype_from_json, manifest_from_json, manifest_to_json
from trine.engine.onnx_wire import check_self_contained
from trine.engine.portable_graph import PortableGraph, Weight, nbytes_of, weight_offsets
from trine.errors import ConfigError, EngineFormatError

__all__ = ["PLAN_PREFIX", "EngineContents", "engine_to_bytes", "read_engine", "write_engine"]

_FIXED = ("manifest", "graph", "weights")  # these sections, in this order; then the plans
PLAN_PREFIX = "plan/"  # a plan's section is called this and its device
_MAX_WEIGHTS = 1_000_000
_MAX_NAME = 4096
_MAX_GRAPH_BYTES = 64 * 2**20  # without its weights; with it, reading takes at most the file's size + 64 MB


def write_engine(
    path: str | os.PathLike[str],
    manifest: Manifest,
    graph: PortableGraph,
    plans: Mapping[str, bytes | memoryview] | None = None,
) -> None:
    """Write one engine file, whole or not at all. ``plans`` maps a device ("cpu") to its compiled plan.

    Weights and plans are written from where they lie: extra memory is a few MB. Raises EngineSaveError if it
    cannot be written, ConfigError if it would be no valid file.
    """
    write_atomically(path, _encode(manifest, graph, plans or {}))


def engine_to_bytes(
    manifest: Manifest, graph: PortableGraph, plans: Mapping[str, bytes | memoryview] | None = None
) -> bytes:
    """The bytes that ``write_engine`` writes. Raises ConfigError."""
    return b"".join(_encode(manifest, graph, plans or {}))


def _encode(manifest: Manifest, graph: PortableGraph, plans: Mapping[str, bytes | memoryview]) -> Iterator[memoryview]:
    """The file's bytes, after the checks that reading will make: ConfigError instead of a bad file."""
    if len(graph.model) > _MAX_GRAPH_BYTES:
        raise ConfigError(
            f"the graph takes {len(graph.model)} bytes, at most {_MAX_GRAPH_BYTES} are allowed: "
            "make its large constants weights"
        )
    for device in plans:
        if not _is_plan(PLAN_PREFIX + device):
            raise ConfigError(f"plan name {device!r}: wanted a short identifier such as 'cpu'")
    offsets = weight_offsets([weight.nbytes for weight in graph.weights])
    table, weights, end = [], [], 0
    for weight, offset in zip(graph.weights, offsets, strict=False):
        table.append(
            {
                "name": weight.name,
                "dtype": weight.dtype.value,
                "shape": list(weight.shape),
                "offset": offset,
                "nbytes": weight.nbytes,
            }
        )
        weights += [memoryview(bytes(offset - end)), weight.data.data]
        end = offset + weight.nbytes
    try:
        check_self_contained(graph.model)
        text = strict_json.dump(manifest_to_json(manifest))
        manifest_from_json(strict_json.parse(text, "manifest", graph.nbytes))
        _check_table(table, end, newer=False)
    except (ValueError, EngineFormatError) as err:
        raise ConfigError(f"this engine cannot be written: {err}") from err
    sections = {
        "manifest": [memoryview(text)],
        "graph": [memoryview(graph.model)],
        "weights": weights,
        **{PLAN_PREFIX + device: [memoryview(plan).cast("B")] for device, plan in plans.items()},
    }
    return container.encode({"weights": table}, sections)


@dataclass(eq=False)
class EngineContents:
    """An open engine file. ``graph.weights`` and ``plans`` are read-only views of the mapped file.

    They keep the mapping alive. ``close()`` drops it early, if nothing else holds a view any more.
    """

    manifest: Manifest
    graph: PortableGraph
    plans: Mapping[str, memoryview]  # by device: "cpu"
    layout: container.Layout  # version, sizes and offsets, for the inspector
    path: str | None  # None: read from bytes
    _data: memoryview
    _mapping: mmap.mmap | None

    def verify_checksums(self, sections: Collection[str] | None = None) -> None:
        """Hash these sections; None: every one. Raises EngineFormatError naming the first damaged one."""
        if not self._data:
            raise ConfigError("this engine file is closed; open it again with read_engine")
        for name, section in self.layout.sections.items():
            if sections is None or name in sections:
                container.verify_section(self._data, section)

    def close(self) -> None:
        """Unmap the file now, or as soon as the last array, session or graph that uses it is gone."""
        mapping, self._mapping = self._mapping, None
        self.graph, self.plans, self._data = PortableGraph(b""), {}, memoryview(b"")
        if mapping is not None:
            # With a BufferError someone still has a view: unmapping would crash them. The last view unmaps it.
            with contextlib.suppress(BufferError):
                mapping.close()

    def __enter__(self) -> EngineContents:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def read_engine(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview,
    *,
    check: Literal["all", "header"] = "all",
) -> EngineContents:
    """Open an engine file, or its bytes.

    ``check="header"`` leaves the weights and plans unhashed (``verify_checksums()`` does it later);
    everything else is always checked. A file is mapped, not read: it must not be changed in place while it is
    open (trine itself never does). Bytes that are mutable or not on a multiple of 64 are copied once.

    Raises FileNotFoundError, PermissionError; EngineFormatError for whatever is not a whole, sound engine;
    EngineVersionError for one of a newer format.
    """
    if check not in ("all", "header"):
        raise ConfigError(f"check={check!r}; wanted 'all' or 'header'")
    if isinstance(source, (bytes, bytearray, memoryview)):
        path, mapping, data = None, *_from_memory(source)
    else:
        path = os.fspath(source)
        mapping, data = _map_file(path)
    layout = container.open_layout(data)
    sections = layout.sections
    _check_header(layout)

    def content(name: str) -> memoryview:
        return data[sections[name].offset : sections[name].offset + sections[name].length]

    for name, section in sections.items():
        if check == "all" or name in ("manifest", "graph"):
            container.verify_section(data, section)
    manifest = manifest_from_json(
        strict_json.parse(bytes(content("manifest")), "manifest", layout.file_bytes),
        allow_unknown=layout.is_newer,
    )
    if sections["graph"].length > _MAX_GRAPH_BYTES:
        raise EngineFormatError(
            f"is {sections['graph'].length} bytes long; at most {_MAX_GRAPH_BYTES} are allowed", "graph"
        )
    model = bytes(content("graph"))
    try:
        check_self_contained(model)
    except ValueError as err:
        raise EngineFormatError(f"is not a sound ONNX graph: {err}", "graph") from err
    weights = _read_weights(layout, content("weights"))
    plans = {name.removeprefix(PLAN_PREFIX): content(name) for name in sections if name.startswith(PLAN_PREFIX)}
    return EngineContents(manifest, PortableGraph(model, weights), plans, layout, path, data, mapping)


def _is_plan(name: str) -> bool:
    device = name.removeprefix(PLAN_PREFIX)
    return device.isascii() and device.isidentifier() and len(device) <= 48


def _map_file(path: str) -> tuple[mmap.mmap, memoryview]:
    """The file mapped read-only. A folder, device or empty file is an EngineFormatError."""
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no engine file here", path) from None
    except ValueError as err:  # a NUL in the path
        raise EngineFormatError(f"{path!r} is not a path: {err}", "file") from err
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
            raise EngineFormatError(f"{path!r} is {kind}, wanted an engine file", "file")
        if status.st_size == 0:
            raise EngineFormatError(f"{path!r} is not a trine engine: it is empty", "file")
        mapping = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    return mapping, memoryview(mapping)


def _from_memory(source: bytes | bytearray | memoryview) -> tuple[mmap.mmap | None, memoryview]:
    data = memoryview(source)
    if not data.c_contiguous:
        raise ConfigError("the engine's bytes are not contiguous; pass bytes(...)")
    if not data.nbytes:
        raise EngineFormatError("is not a trine engine: it is empty", "file")
    data = data.cast("B")
    if data.readonly and np.frombuffer(data, np.uint8).ctypes.data % 64 == 0:
        return None, data
    mapping = mmap.mmap(-1, len(data))  # anonymous memory, on a page: weights in it are aligned as in a file
    mapping[:] = data
    return mapping, memoryview(mapping).toreadonly()


def _check_header(layout: container.Layout) -> None:
    strict_json.record(layout.header, "header", "header", ("sections", "weights"), allow_unknown=layout.is_newer)
    names = list(layout.sections)
    if tuple(names[: len(_FIXED)]) != _FIXED:
        raise EngineFormatError(f"wanted sections {', '.join(_FIXED)} first; got {', '.join(names[:3])}", "header")
    for name in names[len(_FIXED) :]:
        if name.startswith(PLAN_PREFIX) and not _is_plan(name):
            raise EngineFormatError(f"plan name {name!r}: wanted a short identifier", "header")
        if not name.startswith(PLAN_PREFIX) and not layout.is_newer:
            raise EngineFormatError(f"unknown section {name!r}", "header")


def _read_weights(layout: container.Layout, data: memoryview) -> tuple[Weight, ...]:
    """A view of the section for each entry in the table of weights."""
    weights, end = [], 0
    for name, dtype, shape, offset, nbytes in _check_table(layout.header["weights"], len(data), layout.is_newer):
        if any(data[end:offset]):
            raise EngineFormatError(f"bytes {end} to {offset} between weights must be zero", "weights")
        weights.append(Weight(name, dtype, shape, np.frombuffer(data, np.uint8, nbytes, offset)))
        end = offset + nbytes
    return tuple(weights)


_Entry = tuple[str, DataType, tuple[int, ...], int, int]  # name, dtype, shape, offset, nbytes


def _check_table(table: Any, section_bytes: int, newer: bool) -> list[_Entry]:
    """The table of weights, if it fits a section of this size: aligned, in order, no gap, no overlap."""
    table = strict_json.items(table, "weights", "header", _MAX_WEIGHTS)
    entries = [_read_weight(entry, f"weights[{number}]", newer) for number, entry in enumerate(table)]
    if len({name for name, *_ in entries}) != len(entries):
        raise EngineFormatError("weights: two have the same name", "header")
    starts = weight_offsets([nbytes for *_, nbytes in entries])
    for (name, _, _, offset, _), start in zip(entries, starts, strict=False):
        if offset != start:
            raise EngineFormatError(
                f"weight {name[:80]!r}: offset {offset}, wanted {start}: weights follow one another, aligned",
                "header",
            )
    if starts[-1] != section_bytes:
        raise EngineFormatError(f"its weights end at byte {starts[-1]}, the section at {section_bytes}", "header")
    return entries


def _read_weight(entry: Any, where: str, newer: bool) -> _Entry:
    keys = ("name", "dtype", "shape", "offset", "nbytes")
    entry = strict_json.record(entry, where, "header", keys, allow_unknown=newer)
    name = strict_json.text(entry["name"], f"{where}.name", "header", _MAX_NAME, empty=False)
    dtype = dtype_from_json(entry["dtype"], f"{where}.dtype", "header")
    shape = strict_json.items(entry["shape"], f"{where}.shape", "header", 64)
    dims = tuple(strict_json.integer(dim, f"{where}.shape", "header") for dim in shape)
    offset = strict_json.integer(entry["offset"], f"{where}.offset", "header")
    nbytes = strict_json.integer(entry["nbytes"], f"{where}.nbytes", "header")
    if dtype is DataType.STRING or nbytes != nbytes_of(dtype, dims):
        raise EngineFormatError(
            f"{where}: {nbytes} bytes, but {dtype.value} {list(dims)[:8]} takes {nbytes_of(dtype, dims)}",
            "header",
        )
    return name, dtype, dims, offset, nbytes
