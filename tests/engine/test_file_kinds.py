"""A file that is no engine is refused with what it seems to be and what to do with it."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_samples import (
    SOUND,
    onnx_model,
    refused,
)

from trine.engine.format import read_engine


def _checkpoint(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "onnx": (lambda p: p.write_bytes(onnx_model([], [])), "looks like an ONNX model; build an engine from it first"),
    "zip": (_checkpoint, "zip archive, perhaps a PyTorch checkpoint; load it in PyTorch"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps({"w": 1})), "a Python pickle, perhaps a PyTorch checkpoint"),
    "safetensors": (lambda p: p.write_bytes((2).to_bytes(8, "little") + b"{}      "), "a safetensors file"),
    "xml": (lambda p: p.write_text('<?xml version="1.0"?><net/>'), "an XML file"),
    "text": (lambda p: p.write_text("hello, I am a text"), r"it starts with b'hello, I'"),
    "empty": (lambda p: p.touch(), "it is empty"),
    "one byte": (lambda p: p.write_bytes(b"\x89"), "not a trine engine"),
    "folder": (lambda p: p.mkdir(), "is a folder, wanted an engine file"),
    "pipe": (os.mkfifo, "is a device, pipe or socket"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_files_that_are_no_engine(tmp_path: Path, kind: str) -> None:
    create, reason = OTHERS[kind]
    create(tmp_path / "file")
    refused(tmp_path / "file", reason, "file")


def test_line_ends_rewritten_by_a_transfer() -> None:
    refused(SOUND.replace(b"\r\n", b"\n"), r"is damaged: it starts with", "prelude")


def test_devices_missing_files_and_odd_paths(tmp_path: Path) -> None:
    refused("/dev/zero", "device", "file")
    refused("net\0.trine", "not a path", "file")
    refused(b"", "empty", "file")
    with pytest.raises(FileNotFoundError, match=r"no engine file here.*missing\.trine"):
        read_engine(tmp_path / "missing.trine")
