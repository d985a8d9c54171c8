"""A file is written whole or not at all: full disks, folders that refuse, Ctrl-C, several writers at once."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from trine.engine.atomic_write import write_atomically
from trine.errors import EngineSaveError


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_parts_are_joined_and_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "net.trine"
    path.write_text("old")
    write_atomically(path, iter([b"ab", memoryview(b""), memoryview(b"cd")]))
    assert path.read_bytes() == b"abcd"
    assert leftovers(tmp_path) == ["net.trine"]


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", [b"x"])
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", [b"new"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_long_names_work(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), [b"x"])
    assert len(leftovers(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/net.trine", "No such file or directory"),
        ("folder", "not a regular file"),
        ("file/net.trine", "Not a directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(EngineSaveError, match=reason) as caught:
        write_atomically(tmp_path / path, [b"x"])
    assert path in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno
    assert leftovers(tmp_path) == ["file", "folder"]


def test_devices_are_left_alone() -> None:
    with pytest.raises(EngineSaveError, match="not a regular file"):
        write_atomically("/dev/null", [b"x"])
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_folder_without_permission() -> None:
    # Not tmp_path, whose parents other users may not enter. Root may write anywhere, so it stops being root.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "net.trine").write_text("old")
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(EngineSaveError, match=r"net\.trine'.*Permission denied"):
                write_atomically(folder / "net.trine", [b"new"])
        finally:
            if root:
                os.seteuid(0)
        assert (folder / "net.trine").read_text() == "old"
        assert leftovers(folder) == ["net.trine"]
        folder.chmod(0o755)


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk; test_a_file_size_limit covers the same path")
    try:
        (disk / "net.trine").write_text("old")
        with pytest.raises(EngineSaveError, match="No space left on device"):
            write_atomically(disk / "net.trine", [bytes(40_000), bytes(40_000)])
        assert (disk / "net.trine").read_text() == "old"
        assert leftovers(disk) == ["net.trine"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_size_limit(tmp_path: Path) -> None:
    """The kernel refuses to make the file larger, in the middle of a write: like a full disk or a quota."""
    (tmp_path / "net.trine").write_text("old")
    child = python(
        """
        import resource, signal, sys
        from trine.engine.atomic_write import write_atomically
        from trine.errors import EngineSaveError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            write_atomically(sys.argv[1], [bytes(40_000), bytes(40_000)])
        except EngineSaveError as err:
            print(err)
        """,
        tmp_path / "net.trine",
    )
    assert "File too large" in child.communicate()[0]
    assert (tmp_path / "net.trine").read_text() == "old"
    assert leftovers(tmp_path) == ["net.trine"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        assert len(leftovers(tmp_path)) == 1
        raise error

    with pytest.raises(error):
        write_atomically(tmp_path / "net.trine", parts())
    assert leftovers(tmp_path) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    child = python(
        """
        import signal, sys
        from trine.engine.atomic_write import write_atomically
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
        def parts():
            print("started", flush=True)
            while True:
                yield bytes(1000)
        write_atomically(sys.argv[1], parts())
        """,
        tmp_path / "net.trine",
    )
    assert child.stdout
    assert child.stdout.readline() == "started\n"
    child.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in child.communicate(timeout=30)[0]
    assert leftovers(tmp_path) == []


def test_several_processes_write_one_path(tmp_path: Path) -> None:
    """A reader in between never sees anything but one writer's whole file."""
    path = tmp_path / "net.trine"
    path.write_bytes(b"0" * 300_000)
    code = """
        import sys
        from trine.engine.atomic_write import write_atomically
        for _ in range(40):
            write_atomically(sys.argv[1], [sys.argv[2].encode() * 1000] * 300)
        """
    writers = [python(code, path, digit) for digit in "123"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1
        seen.add(content[0])
    assert [writer.communicate()[0] for writer in writers] == ["", "", ""]
    assert len(seen) > 1
    assert leftovers(tmp_path) == ["net.trine"]
