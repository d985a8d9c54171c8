"""Host memory with an identity: what is refused, and that nothing of it can crash."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch

from trine.compat import memory
from trine.errors import InputError


def test_a_block_is_zeroed_aligned_and_writeable() -> None:
    address = memory.allocate(1000)
    assert address % 64 == 0
    assert not memory.view(address, 1000).any()
    memory.view(address + 10, 4)[:] = (1, 2, 3, 4)
    assert memory.view(address, 1000)[8:16].tolist() == [0, 0, 1, 2, 3, 4, 0, 0]
    memory.release(address)


def test_refusals_say_why() -> None:
    address = memory.allocate(100)
    assert memory.refusal(address, 100) is None
    assert memory.refusal(address + 40, 60) is None
    assert memory.refusal(address, 0) is None
    assert memory.refusal(address, 101) == f"101 bytes do not fit the 100 bytes at {address:#x}"
    assert "61 bytes from byte 40 on do not fit the 100" in (memory.refusal(address + 40, 61) or "")
    assert "do not fit the 100" in (memory.refusal(address + 200, 1) or "")  # in the block's last page
    memory.release(address)
    assert "was freed" in (memory.refusal(address, 1) or "")
    assert "was freed" in (memory.refusal(address + 99, 1) or "")
    with pytest.raises(InputError, match=r"the buffer at 0x.* cannot be used: its memory \(100 bytes"):
        memory.view(address, 10)


@pytest.mark.parametrize(
    ("address", "nbytes", "text"),
    [
        (0, 4, "a null pointer"),
        (12, 4, "the first page"),
        (-8, 4, "-8 is no address"),
        (1 << 64, 4, "is no address"),
        (0x10_0000, -1, "-1 is no number of bytes"),
        (0x7000_0000_0000_0000, 4, "no memory is mapped"),
        ((1 << 64) - 8, 4096, "no memory is mapped"),
        (0x10_0000, 1 << 62, "no memory is mapped"),
    ],
)
def test_addresses_of_nothing_are_refused(address: int, nbytes: int, text: str) -> None:
    assert text in (memory.refusal(address, nbytes) or "")
    with pytest.raises(InputError, match="cannot be used"):
        memory.view(address, nbytes)


def test_memory_of_others_is_used_as_it_is() -> None:
    array, tensor = np.arange(1000.0), torch.arange(1000.0)
    for address, nbytes in ((array.ctypes.data, array.nbytes), (tensor.data_ptr(), tensor.numel() * 4)):
        assert memory.refusal(address, nbytes) is None
    memory.view(tensor.data_ptr(), 4)[:] = np.float32(7).reshape(1).view(np.uint8)
    assert tensor[0] == 7
    with pytest.raises(InputError, match="no memory was allocated there"):
        memory.release(array.ctypes.data)


def test_freeing_twice_or_in_the_middle_is_refused() -> None:
    address = memory.allocate(8)
    with pytest.raises(InputError, match=r"it lies inside the 8 bytes at .*free that address"):
        memory.release(address + 4)
    memory.release(address)
    with pytest.raises(InputError, match=r"its memory \(8 bytes at 0x.*\) was freed before"):
        memory.release(address)


def test_a_view_outlives_its_block_and_the_quarantine() -> None:
    address = memory.allocate(1 << 16)
    seen = memory.view(address, 1 << 16)
    memory.release(address)
    for _ in range(memory.QUARANTINED + 1):
        memory.release(memory.allocate(1))
    assert seen.sum() == 0  # the pages are still there, and given back
    seen[:] = 1
    with pytest.raises(InputError, match="or it was freed long ago"):
        memory.release(address)


@pytest.mark.parametrize("nbytes", [0, -1])
def test_no_block_without_bytes(nbytes: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        memory.allocate(nbytes)


@pytest.mark.parametrize("nbytes", [1 << 60, 1 << 70])
def test_too_much_is_a_memory_error(nbytes: int) -> None:
    with pytest.raises(MemoryError, match=f"cannot allocate {nbytes} bytes"):
        memory.allocate(nbytes)


def test_a_finalizer_may_run_while_the_tables_are_in_use() -> None:
    address = memory.allocate(8)
    with memory._locked():
        memory.release_soon(address)  # must neither wait for the lock nor change the tables now
        assert memory._refusal(address, 8) is None
    assert "was freed" in (memory.refusal(address, 8) or "")


def test_threads_allocate_and_free_at_once() -> None:
    before = memory.live_bytes()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for size in range(1, 200):
                address = memory.allocate(size)
                memory.view(address, size)[:] = size % 251
                assert (memory.view(address, size) == size % 251).all()
                memory.release(address)
        except BaseException as err:  # noqa: BLE001  # handed to the main thread
            failures.append(err)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert memory.live_bytes() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_writes_to_its_own_copy() -> None:
    address = memory.allocate(1)
    child = os.fork()
    if child == 0:
        memory.view(address, 1)[:] = 9
        os._exit(0)
    os.waitpid(child, 0)
    assert memory.view(address, 1)[0] == 0
    memory.release(address)
