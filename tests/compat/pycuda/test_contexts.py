"""Initialisation, devices, contexts, streams and events: the order that CUDA demands, and what breaks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from new_process import in_new_process

import trine.compat.pycuda.driver as cuda
from trine.compat.pycuda import VERSION, VERSION_TEXT
from trine.compat.pycuda.tools import clear_context_caches, make_default_context


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    cuda.init()
    yield
    while cuda.Context.get_current() is not None:
        cuda.Context.pop()


def test_nothing_works_before_init() -> None:
    printed = in_new_process(
        "import trine.compat.pycuda.driver as cuda\n"
        "for call in (cuda.Device.count, lambda: cuda.Device(0), lambda: cuda.mem_alloc(4), cuda.Stream):\n"
        "    try: call()\n"
        "    except cuda.LogicError as err: print('not initialized' in str(err))\n"
        "cuda.init()\n"
        "print(cuda.Device.count())"
    )
    assert printed.split() == ["True"] * 4 + ["1"]


def test_autoinit_makes_a_context_and_takes_it_away() -> None:
    printed = in_new_process(
        "import trine.compat.pycuda.autoinit as autoinit, trine.compat.pycuda.driver as cuda\n"
        "print(cuda.Context.get_current() is autoinit.context, autoinit.device == cuda.Device(0))\n"
        "kept = cuda.mem_alloc(4)"
    )
    assert printed == "True True"


def test_no_context_is_the_error_that_everybody_knows() -> None:
    device = cuda.Device(0)
    message = "invalid device context - no currently active context"
    for call in (lambda: cuda.mem_alloc(4), cuda.Stream, cuda.Event, lambda: cuda.pagelocked_empty(4, np.uint8)):
        with pytest.raises(cuda.LogicError, match=message):
            call()
    context = device.make_context()
    allocation = cuda.mem_alloc(4)
    context.pop()
    with pytest.raises(cuda.LogicError, match=message):
        cuda.memcpy_htod(allocation, b"1234")
    context.push()
    cuda.memcpy_htod(allocation, b"1234")
    cuda.Context.pop()
    with pytest.raises(cuda.LogicError, match="context::pop failed"):
        cuda.Context.pop()
    allocation.free()  # freeing needs none


def test_contexts_are_a_stack_of_each_thread() -> None:
    first, second = cuda.Device(0).make_context(), cuda.Device(0).make_context()
    assert cuda.Context.get_current() is second
    second.pop()
    assert cuda.Context.get_current() is first
    seen: list[object] = []

    def work() -> None:
        seen.append(cuda.Context.get_current())
        first.push()
        seen.append(cuda.mem_alloc(4))
        first.pop()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[0] is None
    assert isinstance(seen[1], cuda.DeviceAllocation)


def test_a_context_ends_with_its_memory() -> None:
    context = make_default_context()
    clear_context_caches()
    allocation, stream, event = cuda.mem_alloc(16), cuda.Stream(), cuda.Event()
    address = int(allocation)
    context.detach()
    assert cuda.Context.get_current() is None
    other = cuda.Device(0).make_context()
    with pytest.raises(cuda.LogicError, match="freed"):
        cuda.memcpy_htod(address, b"1234")
    with pytest.raises(cuda.LogicError, match="freed"):
        allocation.free()
    for use in (stream.synchronize, event.record, context.push, lambda: cuda.memcpy_htod_async(1, b"", stream)):
        with pytest.raises(cuda.LogicError, match="this context was detached"):
            use()
    with pytest.raises(cuda.LogicError, match="cannot detach twice"):
        context.detach()
    other.detach()


def test_the_primary_context_is_one() -> None:
    device = cuda.Device(0)
    context = device.retain_primary_context()
    assert device.retain_primary_context() is context
    context.push()
    cuda.mem_alloc(1)
    context.detach()
    assert device.retain_primary_context() is not context


def test_the_device_is_the_cpu() -> None:
    assert cuda.Device.count() == 1
    device = cuda.Device(0)
    assert device.name()
    assert device.total_memory() > 1 << 28
    assert device.compute_capability() == (0, 0)
    assert device.multiprocessor_count == device.get_attributes()[cuda.device_attribute.MULTIPROCESSOR_COUNT] >= 1
    assert (device, hash(device)) == (cuda.Device(0), hash(cuda.Device(0)))
    assert not device.can_access_peer(device)
    with pytest.raises(cuda.LogicError, match="invalid device ordinal - the only device is 0"):
        cuda.Device(1)
    with pytest.raises(cuda.LogicError, match="cuDeviceGetAttribute failed"):
        device.get_attribute(1)
    with pytest.raises(AttributeError, match="clock_rate"):
        _ = device.clock_rate
    with pytest.raises(cuda.LogicError, match="cuInit failed"):
        cuda.init(1)
    assert (cuda.get_version(), cuda.get_driver_version()) == ((0, 0, 0), 0)
    assert VERSION_TEXT.startswith(f"{VERSION[0]}.{VERSION[1]}")


def test_events_measure_time() -> None:
    context = cuda.Device(0).make_context(cuda.ctx_flags.SCHED_AUTO)
    stream, start, end = cuda.Stream(), cuda.Event(), cuda.Event()
    assert start.record(stream) is start
    stream.wait_for_event(start)
    context.synchronize()
    assert end.record().synchronize() is end
    assert end.query()
    assert 0 <= end.time_since(start) < 60_000
    assert start.time_till(end) == end.time_since(start)
    with pytest.raises(cuda.LogicError, match=r"cuEventElapsedTime failed: .* never recorded"):
        cuda.Event().time_since(start)
    with pytest.raises(cuda.LogicError, match="DISABLE_TIMING"):
        start.time_till(cuda.Event(cuda.event_flags.DISABLE_TIMING).record())
    with pytest.raises(TypeError, match="expected a Stream"):
        cuda.memcpy_htod_async(cuda.mem_alloc(4), b"1234", 7)
    with pytest.raises(TypeError, match="expected an Event"):
        stream.wait_for_event(None)
