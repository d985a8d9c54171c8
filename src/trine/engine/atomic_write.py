"""Write a file whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from trine.errors import EngineSaveError

__all__ = ["write_atomically"]

_PIECE = 8 * 2**20  # bytes per write, so that Ctrl-C is answered soon
# File systems that cannot sync a folder, and folders that may be written but not read, say one of these.
_CANNOT_SYNC_FOLDER = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)


def write_atomically(path: str | os.PathLike[str], parts: Iterable[memoryview | bytes]) -> None:
    """Write ``parts`` (of bytes, 1-D) one after the other to ``path``, by a temporary file beside it.

    Readers see the old file or the new one, never a part; with several writers, the last rename wins. A
    symbolic link is followed. Raises EngineSaveError; on that, and on Ctrl-C, the temporary file is gone and
    what was at ``path`` is unchanged. Only a killed process leaves its temporary file, ``.trine-*.tmp``.
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".trine-{os.urandom(8).hex()}.tmp"
    try:
        # As root, a rename would replace /dev/null itself.
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise OSError(errno.EINVAL, "there is something there that is not a regular file")
        _write_and_rename(target, temporary, parts)
        _sync_folder(target.parent)
    except OSError as err:
        failure = EngineSaveError(
            f"cannot write {os.fspath(path)!r}: {err.strerror or err}. What was there before is unchanged; "
            "choose a folder that exists, may be written and has room"
        )
        failure.errno = err.errno  # not filename: with both, str() would leave our text out
        raise failure from err


def _write_and_rename(target: Path, temporary: Path, parts: Iterable[memoryview | bytes]) -> None:
    # Not tempfile, whose files only their owner may read: mode 0o666 leaves that to the user's umask.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    renamed = False
    try:
        try:
            for part in parts:
                _write_all(descriptor, memoryview(part))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(target)
        renamed = True
    finally:
        if not renamed:
            temporary.unlink(missing_ok=True)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data[:_PIECE]) :]


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets a folder be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as err:
        if err.errno not in _CANNOT_SYNC_FOLDER:
            raise
