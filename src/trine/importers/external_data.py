"""ONNX external data, read only from inside the model's own folder and never before it is checked.

A model file says where its weights are: a location (a path), an offset and a length. The file may come from anywhere,
so nothing it says is trusted: a location that leaves the folder, passes through a link, or names something that is no
ordinary file is refused, and sizes are compared with the file and with the tensor's shape before anything is mapped.

Each file is opened once, component by component, without following links; every check is made on the opened file, and
the mapping comes from it too. Renaming or replacing files meanwhile therefore changes nothing.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from trine.errors import ExternalDataError

__all__ = ["DataFolder", "ExternalEntry"]

# Locations that ONNX Runtime and OpenVINO take for an address in this process's memory.
_MEMORY_TAGS = ("_ORT_MEM_ADDR_", "*/")
_KNOWN_KEYS = ("location", "offset", "length", "checksum", "basepath")
_MAX_LOCATION = 4096  # characters; PATH_MAX on Linux


@dataclass(frozen=True)
class ExternalEntry:
    """Where a tensor's bytes are. ``length`` None: up to the end that its shape needs."""

    tensor: str
    location: str
    offset: int
    length: int | None

    @classmethod
    def parse(cls, tensor: str, pairs: list[tuple[str, str]]) -> ExternalEntry:
        """From the key-value pairs of a TensorProto's ``external_data``.

        Raises ExternalDataError for unknown or repeated keys, no location, or numbers that are none.
        """
        values: dict[str, str] = {}
        for key, value in pairs:
            if key in values:
                raise ExternalDataError(f"tensor {tensor!r}: its external data says {key!r} twice; re-export the model")
            values[key] = value
        unknown = sorted(set(values) - set(_KNOWN_KEYS))
        if unknown:
            raise ExternalDataError(
                f"tensor {tensor!r}: its external data has unknown keys {unknown}; known: {', '.join(_KNOWN_KEYS)}"
            )
        if not values.get("location"):
            raise ExternalDataError(f"tensor {tensor!r}: its external data names no location; re-export the model")
        length = _number(tensor, values, "length")
        return cls(tensor, values["location"], _number(tensor, values, "offset") or 0, length)


def _number(tensor: str, values: Mapping[str, str], key: str) -> int | None:
    text = values.get(key)
    if text is None:
        return None
    # ASCII digits only: int() would also take "-1", "1_000", " 7" and other scripts' digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 2**63):
        raise ExternalDataError(
            f"tensor {tensor!r}: its external data's {key} is {text[:40]!r}; expected a whole number below 2^63"
        )
    return int(text)


class DataFolder:
    """The folder that holds a model's external data; opens each file once and keeps its mapping.

    A context manager: the folder is let go of at the end, the mappings live as long as arrays over them.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._mapped: dict[str, memoryview] = {}
        self._fd: int | None = None

    def __enter__(self) -> DataFolder:
        if os.open in os.supports_dir_fd:
            self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._mapped.clear()

    def read(self, entry: ExternalEntry, nbytes: int) -> memoryview:
        """The ``nbytes`` bytes of ``entry``: a read-only view of the mapped file. Nothing is copied.

        Raises ExternalDataError for a location outside the folder or through a link, for what is no ordinary file,
        and for an offset or length that fits neither the file nor the tensor.
        """
        if entry.length is not None and entry.length != nbytes:
            raise ExternalDataError(
                f"tensor {entry.tensor!r}: its external data has length {entry.length}, but its type and shape take "
                f"{nbytes} bytes; re-export the model"
            )
        data = self._map(entry)
        if entry.offset + nbytes > len(data):
            raise ExternalDataError(
                f"tensor {entry.tensor!r}: its external data ends at byte {entry.offset + nbytes}, but "
                f"{entry.location!r} has only {len(data)} bytes; the file is cut short, or not this model's"
            )
        return data[entry.offset : entry.offset + nbytes]

    def _map(self, entry: ExternalEntry) -> memoryview:
        parts = _parts(entry)
        key = "/".join(parts)
        if key not in self._mapped:
            try:
                fd = self._open(parts)
            except OSError as err:
                raise ExternalDataError(self._why_not(entry, err)) from err
            try:
                self._mapped[key] = _map_checked(fd, entry)
            finally:
                os.close(fd)
        return self._mapped[key]

    def _open(self, parts: list[str]) -> int:
        """A descriptor of the file at ``parts`` below the folder. Raises OSError, ELOOP or ENOTDIR for links."""
        # O_NONBLOCK: opening a FIFO must not wait for a writer. It changes nothing for ordinary files.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        if self._fd is None:
            return self._open_by_path(parts, flags)
        folder = os.dup(self._fd)
        try:
            for part in parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(parts[-1], flags | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            os.close(folder)

    def _open_by_path(self, parts: list[str], flags: int) -> int:
        """Where directories cannot be opened (Windows): check for links, open, check that it is the same file."""
        path = self._folder
        for part in parts:
            path = path / part
            if path.is_symlink() or _is_junction(path):
                raise OSError(f"{path.name} is a link")
        fd = os.open(path, flags)
        if not os.path.samestat(os.fstat(fd), path.lstat()):
            os.close(fd)
            raise OSError(f"{path.name} was replaced while it was being opened")
        return fd

    def _why_not(self, entry: ExternalEntry, err: OSError) -> str:
        start = f"tensor {entry.tensor!r}: its external data {entry.location!r} cannot be read"
        path = self._folder
        for part in _parts(entry):
            path = path / part
            if path.is_symlink():
                return f"{start}: {part!r} is a symbolic link; put the file itself into the model's folder"
        if not path.exists():
            return f"{start}: there is no such file in {self._folder}; put it beside the model"
        if path.is_dir():
            return f"{start}: it is a folder"
        return f"{start}: {err.strerror or err}"


def _parts(entry: ExternalEntry) -> list[str]:
    """The location's components. Raises ExternalDataError where it is no plain path below the folder."""
    location = entry.location
    start = f"tensor {entry.tensor!r}: its external data is at {location[:200]!r}"
    if any(tag in location for tag in _MEMORY_TAGS):
        raise ExternalDataError(f"{start}, an address in memory; a model file may only name files in its own folder")
    if "\0" in location or len(location) > _MAX_LOCATION:
        raise ExternalDataError(f"{start}, which is no file name; re-export the model")
    plain = location.replace("\\", "/")  # a file written on Windows; and so that "..\\" is seen for what it is
    if plain.startswith("/") or ":" in plain.split("/")[0]:
        raise ExternalDataError(f"{start}, an absolute path; it must be inside the model's folder, relative to it")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ExternalDataError(f"{start}, which leaves the model's folder; put the data inside it and re-export")
    if not parts:
        raise ExternalDataError(f"{start}, which is a folder; re-export the model")
    return parts


def _map_checked(fd: int, entry: ExternalEntry) -> memoryview:
    """Map an open file, if it is an ordinary one with one name."""
    start = f"tensor {entry.tensor!r}: its external data {entry.location!r}"
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ExternalDataError(f"{start} is no ordinary file; only ordinary files are read")
    if status.st_nlink > 1:
        raise ExternalDataError(
            f"{start} has {status.st_nlink} hard links, so it may be a file from elsewhere; "
            "copy it (cp) into the folder"
        )
    if status.st_size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(fd, status.st_size, access=mmap.ACCESS_READ))


def _is_junction(path: Path) -> bool:
    """Windows: directory junctions redirect as symbolic links do, but ``is_symlink`` does not see them."""
    try:
        attributes = getattr(path.lstat(), "st_file_attributes", 0)
    except OSError:
        return False
    return bool(attributes & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0))
