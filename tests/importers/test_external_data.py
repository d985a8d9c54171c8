"""External data is read from inside the model's folder only, and only when every size agrees."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest

from trine.errors import ExternalDataError
from trine.importers.external_data import DataFolder, ExternalEntry


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    (inside / "w.bin").write_bytes(bytes(range(16)))
    (inside / "sub" / "v.bin").write_bytes(b"abcd")
    (tmp_path / "secret.bin").write_bytes(b"secret" * 10)
    return inside


def read(folder, location, offset=0, nbytes=4, length=None):
    with DataFolder(folder) as files:
        return bytes(files.read(ExternalEntry("w", location, offset, length), nbytes))


@pytest.mark.parametrize(
    ("location", "offset", "wanted"),
    [("w.bin", 0, bytes(range(4))), ("./w.bin", 12, bytes(range(12, 16))), ("sub/v.bin", 0, b"abcd")],
)
def test_reads_inside_the_folder(folder, location, offset, wanted):
    assert read(folder, location, offset) == wanted


def test_a_view_outlives_the_folder(folder):
    with DataFolder(folder) as files:
        view = files.read(ExternalEntry("w", "w.bin", 0, 16), 16)
    assert np.frombuffer(view, np.uint8).tolist() == list(range(16))


def test_a_view_survives_the_file_being_replaced(folder):
    with DataFolder(folder) as files:
        view = files.read(ExternalEntry("w", "w.bin", 0, 16), 16)
        (folder / "new").write_bytes(b"x" * 16)
        (folder / "new").replace(folder / "w.bin")
        assert bytes(view) == bytes(range(16))
        assert bytes(files.read(ExternalEntry("v", "w.bin", 0, 16), 16)) == bytes(range(16))


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("../secret.bin", "leaves the model's folder"),
        ("sub/../../secret.bin", "leaves the model's folder"),
        ("..\\secret.bin", "leaves the model's folder"),
        ("/etc/passwd", "absolute path"),
        ("\\\\server\\share", "absolute path"),
        ("C:\\secret.bin", "absolute path"),
        ("*/_ORT_MEM_ADDR_/*", "address in memory"),
        ("a\0b", "no file name"),
        ("x" * 5000, "no file name"),
        (".", "a folder"),
        ("sub", "no ordinary file"),
        ("absent.bin", "no such file"),
    ],
)
def test_refuses_other_places(folder, location, text):
    with pytest.raises(ExternalDataError, match=text):
        read(folder, location)


def test_refuses_symbolic_links(folder):
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "inner.bin").symlink_to("w.bin")  # even inside the folder: it could be pointed elsewhere later
    for location in ("link.bin", "linked/secret.bin", "inner.bin"):
        with pytest.raises(ExternalDataError, match="symbolic link"):
            read(folder, location)


def test_refuses_hard_links(folder):
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    with pytest.raises(ExternalDataError, match="2 hard links"):
        read(folder, "hard.bin")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_refuses_a_fifo_without_waiting(folder):
    os.mkfifo(folder / "pipe")
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)
    with pytest.raises(ExternalDataError, match="no ordinary file"):
        read(folder, "pipe")


def test_sizes_are_compared_with_file_and_tensor(folder):
    with pytest.raises(ExternalDataError, match="length 5, but its type and shape take 4"):
        read(folder, "w.bin", 0, 4, length=5)
    with pytest.raises(ExternalDataError, match=r"ends at byte 18, but 'w.bin' has only 16"):
        read(folder, "w.bin", 14, 4)
    with pytest.raises(ExternalDataError, match="only 16"):
        read(folder, "w.bin", 2**63 - 1, 4)
    with pytest.raises(ExternalDataError, match="only 16"):
        read(folder, "w.bin", 0, 2**62)


def test_an_empty_file_holds_an_empty_tensor(folder):
    (folder / "empty.bin").write_bytes(b"")
    assert read(folder, "empty.bin", 0, 0) == b""


@pytest.mark.parametrize("number", ["-1", "1e3", "٣", " 7", "0x10", "9" * 25, str(2**63), ""])
def test_numbers_are_plain_and_bounded(number):
    with pytest.raises(ExternalDataError, match="whole number below 2\\^63"):
        ExternalEntry.parse("w", [("location", "w.bin"), ("offset", number)])


def test_keys_are_known_and_unique():
    with pytest.raises(ExternalDataError, match="says 'offset' twice"):
        ExternalEntry.parse("w", [("location", "w"), ("offset", "0"), ("offset", "4")])
    with pytest.raises(ExternalDataError, match="unknown keys \\['url'\\]"):
        ExternalEntry.parse("w", [("location", "w"), ("url", "http://example.org")])
    with pytest.raises(ExternalDataError, match="names no location"):
        ExternalEntry.parse("w", [("offset", "0")])
