"""Engine files load as they were written; lies about weights, graph and manifest are refused by name."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import multiprocessing
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_samples import (
    ENTRY,
    PLANS,
    SOUND,
    W,
    assert_is_sample,
    make,
    refused,
    sample_graph,
    sample_manifest,
)

from trine.dtypes import DataType
from trine.engine import container
from trine.engine.format import engine_to_bytes, read_engine, write_engine
from trine.engine.onnx_wire import external_tensor, model_with_initializers
from trine.engine.portable_graph import PortableGraph, Weight
from trine.errors import ConfigError, EngineFormatError, EngineSaveError

# What is written is read.


def test_round_trip_through_a_file_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "net.trine"
    write_engine(path, sample_manifest(), sample_graph(), PLANS)
    assert path.read_bytes() == SOUND
    for source in (path, str(path), SOUND, bytearray(SOUND), memoryview(SOUND)):
        with read_engine(source) as contents:
            assert_is_sample(contents)


def test_no_weights_and_no_plans() -> None:
    contents = read_engine(engine_to_bytes(sample_manifest(), PortableGraph(sample_graph().model)))
    assert contents.graph.weights == ()
    assert contents.plans == {}


@pytest.mark.parametrize("dtype", [dtype for dtype in DataType if dtype.bits])
def test_weights_of_every_dtype(dtype: DataType) -> None:
    data = np.random.default_rng(0).integers(0, 256, (3 * 5 * dtype.bits + 7) // 8, np.uint8)
    weights = (Weight("a", DataType.INT8, (3,), data[:3]) if dtype.bits > 2 else Weight("a", dtype, (3, 5), data),)
    weights += (Weight("b", dtype, (3, 5), data), Weight("none", dtype, (0, 5), np.empty(0, np.uint8)))
    contents = read_engine(engine_to_bytes(sample_manifest(), PortableGraph(b"", weights)))
    for got, wanted in zip(contents.graph.weights, weights, strict=True):
        assert (got.name, got.dtype, got.shape) == (wanted.name, wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(got.data, wanted.data)


@pytest.mark.parametrize("from_file", [True, False])
def test_weights_are_aligned_read_only_views(tmp_path: Path, from_file: bool) -> None:
    many = tuple(Weight.from_array(f"w{n}", np.full(n, n, np.float32)) for n in range(1, 40))
    write_engine(tmp_path / "net", sample_manifest(), PortableGraph(b"", many))
    contents = read_engine(tmp_path / "net" if from_file else (tmp_path / "net").read_bytes())
    assert contents.graph.weights[0].address % 4096 == 0 or not from_file
    for weight in contents.graph.weights:
        assert weight.address % 64 == 0
        assert not weight.data.flags.writeable
        assert not weight.data.flags.owndata


def test_reading_and_writing_a_large_file_take_little_memory(tmp_path: Path) -> None:
    large = np.zeros(30 * 2**20, np.uint8)
    graph = PortableGraph(b"", (Weight.from_array("large", large), Weight.from_array("w", W)))
    tracemalloc.start()
    write_engine(tmp_path / "net", sample_manifest(), graph)
    contents = read_engine(tmp_path / "net")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    np.testing.assert_array_equal(contents.graph.weights[1].array, W)
    assert len(contents.layout.sections["weights"].sha256) == 8


def test_checksums_are_plain_sha256_of_4_mib_chunks(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 9 * 2**20 + 5, np.uint8)
    raw = bytearray(engine_to_bytes(sample_manifest(), PortableGraph(b"", (Weight.from_array("w", data),))))
    section = container.open_layout(memoryview(raw)).sections["weights"]
    chunks = [data[at : at + 4 * 2**20].tobytes() for at in range(0, data.size, 4 * 2**20)]
    assert list(section.sha256) == [hashlib.sha256(chunk).hexdigest() for chunk in chunks]
    raw[section.offset + 5 * 2**20] ^= 1
    refused(raw, "in bytes 4194304 to 8388608", "weights")


def test_weights_outlive_the_closed_file(tmp_path: Path) -> None:
    write_engine(tmp_path / "net", sample_manifest(), sample_graph())
    contents = read_engine(tmp_path / "net")
    array = contents.graph.weights[0].array
    contents.close()
    contents.close()
    gc.collect()
    np.testing.assert_array_equal(array, W)
    with pytest.raises(ConfigError, match="closed"):
        contents.verify_checksums()


def test_saving_over_the_file_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "net"
    write_engine(path, sample_manifest(), sample_graph(), PLANS)
    with read_engine(path) as contents:
        renamed = dataclasses.replace(contents.manifest, name="renamed")
        write_engine(path, renamed, contents.graph, contents.plans)
        assert_is_sample(contents)
    assert read_engine(path).manifest == renamed


def test_changing_the_given_bytes_later_changes_nothing() -> None:
    source = bytearray(SOUND)
    contents = read_engine(source)
    source[:] = bytes(len(source))
    assert_is_sample(contents)


def test_bytes_at_an_odd_address() -> None:
    assert_is_sample(read_engine(memoryview(b"x" + SOUND)[1:]))


def test_checksums_can_be_left_for_later() -> None:
    damaged = bytearray(SOUND)
    damaged[container.open_layout(memoryview(SOUND)).sections["weights"].offset] ^= 1
    contents = read_engine(damaged, check="header")
    contents.verify_checksums([])
    with pytest.raises(EngineFormatError, match="does not match its SHA-256") as caught:
        contents.verify_checksums()
    assert caught.value.section == "weights"
    with pytest.raises(ConfigError, match="wanted 'all' or 'header'"):
        read_engine(SOUND, check="none")  # type: ignore[arg-type]


# Lies with right checksums.


def test_make_is_sound() -> None:
    assert read_engine(make()).graph.weights[0].nbytes == W.nbytes


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({}, "weights: got an object, wanted a list"),
        ([], "weights end at byte 0, the section at 3840"),
        ([{**ENTRY, "offset": 64}], "offset 64, wanted 0"),
        ([{**ENTRY, "offset": -1}], "offset: got -1"),
        ([{**ENTRY, "offset": 2**63 - 1}], "wanted 0"),
        ([{**ENTRY, "nbytes": 2**62}], "takes 3840"),
        ([{**ENTRY, "nbytes": 3839}], "takes 3840"),
        ([{**ENTRY, "shape": [2**40, 2**40]}], r"float32 \[1099511627776, 1099511627776\] takes"),
        ([{**ENTRY, "shape": [2**30], "nbytes": 2**32}], "weights end at byte 4294967296, the section at 3840"),
        ([{**ENTRY, "shape": [1] * 65}], "65 entries; at most 64"),
        ([{**ENTRY, "shape": "24"}], "shape: got a string"),
        ([{**ENTRY, "dtype": "string"}], "string"),
        ([{**ENTRY, "dtype": "object"}], "dtype 'object' is unknown"),
        ([{**ENTRY, "name": ""}], "name"),
        ([{**ENTRY, "pickle": "x"}], "unknown key 'pickle'"),
        ([{**ENTRY, "name": None}], "name: got null"),
        ([ENTRY, ENTRY], "two have the same name"),
        ([ENTRY, {**ENTRY, "name": "v", "offset": 64}], "'v': offset 64, wanted 3840"),
        ([7], "got a number, wanted an object"),
    ],
)
def test_a_lying_table_of_weights(weights: Any, reason: str) -> None:
    refused(make(weights=weights), reason, "header")


def test_what_hides_between_weights_is_refused() -> None:
    entries = [
        {"name": name, "dtype": "int8", "shape": [3], "offset": offset, "nbytes": 3}
        for name, offset in (("a", 0), ("b", 64))
    ]
    read_engine(make(weights=entries, data=bytes(67)))
    refused(make(weights=entries, data=bytes(50) + b"x" + bytes(16)), "between weights must be zero", "weights")


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{}", "name, source, .* missing"),
        (b'{"name":NaN}', "NaN"),
        (b"[" * 10_000, "recursion"),
        (b"\xff", "decode"),
        (b"[" + b"{}," * 3_000_000 + b"0]", "of memory to read"),
    ],
    ids=range(6),
)
def test_a_broken_manifest(manifest: bytes, reason: str) -> None:
    refused(make(manifest=manifest), reason, "manifest")


@pytest.mark.parametrize("location", ["/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
def test_a_graph_that_reads_files_or_memory_is_refused(location: str) -> None:
    model = model_with_initializers(sample_graph().model, [external_tensor("b", 1, (4,), location, 4096, 16)])
    refused(make(model=model), "refers to external data", "graph")


def test_a_graph_that_is_no_protobuf() -> None:
    refused(make(model=b"\xff" * 50), "not a sound ONNX graph", "graph")


# What cannot be written.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"graph": PortableGraph(b"\xff")}, "cannot be written"),
        ({"graph": PortableGraph(b"", (Weight.from_array("w", W),) * 2)}, "weights: two have the same name"),
        ({"graph": PortableGraph(b"", (Weight.from_array("", W),))}, r"weights\[0\]\.name: got ''"),
        ({"graph": PortableGraph(bytes(64 * 2**20 + 1))}, "make its large constants weights"),
        ({"plans": {"cu da": b""}}, "plan name 'cu da'"),
        ({"manifest": dataclasses.replace(sample_manifest(), outputs=())}, "outputs: wanted at least one"),
        ({"manifest": dataclasses.replace(sample_manifest(), name="\ud800")}, "cannot be written"),
    ],
)
def test_nothing_is_written_that_could_not_be_read(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    given = {"manifest": sample_manifest(), "graph": sample_graph(), "plans": PLANS, **changes}
    with pytest.raises(ConfigError, match=reason):
        write_engine(tmp_path / "net", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineSaveError, match=r"No such file or directory.*choose a folder"):
        write_engine(tmp_path / "missing" / "net", sample_manifest(), sample_graph())


def _save_often(path: str, name: str) -> None:
    for _ in range(10):
        write_engine(path, dataclasses.replace(sample_manifest(), name=name), sample_graph(), PLANS)


def test_two_processes_save_to_one_path(tmp_path: Path) -> None:
    path = str(tmp_path / "net.trine")
    _save_often(path, "first")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_save_often, args=(path, name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert read_engine(path).manifest.name in ("first", "one", "two")
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert read_engine(path).manifest.name in ("one", "two")
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.trine"]


def test_reading_imports_no_model_library(tmp_path: Path) -> None:
    write_engine(tmp_path / "net", sample_manifest(), sample_graph(), PLANS)
    code = """
import sys
from trine.engine.format import read_engine, write_engine
contents = read_engine(sys.argv[1])
contents.graph.inline(), contents.graph.in_memory(), contents.graph.external("weights")
write_engine(sys.argv[1], contents.manifest, contents.graph, contents.plans)
heavy = {"onnx", "onnx_ir", "onnxscript", "torch", "onnxruntime", "openvino", "ml_dtypes", "pickle"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net")], capture_output=True, text=True, check=True
    )
    allowed = done.stdout.strip().replace("'pickle'", "")  # NumPy imports it; nothing here uses it
    assert allowed == "[]"
