"""Devices and contexts: one device, which is this machine's CPU; a stack of contexts for each thread."""

from __future__ import annotations

import enum
import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any

from trine.compat import memory
from trine.compat.pycuda.errors import failed
from trine.runtime.cpu.features import cpu_model, usable_cores

if TYPE_CHECKING:
    from trine.compat.pycuda.allocations import DeviceAllocation

__all__ = [
    "Context",
    "Device",
    "ctx_flags",
    "current_context",
    "device_attribute",
    "get_driver_version",
    "get_version",
    "init",
]


class ctx_flags(enum.IntEnum):  # noqa: N801  # pycuda's name
    """Flags of ``Device.make_context``, with CUDA's numbers. None changes anything on the CPU."""

    SCHED_AUTO = 0
    SCHED_SPIN = 1
    SCHED_YIELD = 2
    SCHED_BLOCKING_SYNC = 4
    BLOCKING_SYNC = 4
    SCHED_MASK = 7
    MAP_HOST = 8
    LMEM_RESIZE_TO_MAX = 16
    FLAGS_MASK = 31


class device_attribute(enum.IntEnum):  # noqa: N801  # pycuda's name
    """The attributes that a CPU has, with CUDA's numbers; ``Device.get_attribute`` refuses others."""

    MULTIPROCESSOR_COUNT = 16
    INTEGRATED = 18
    CAN_MAP_HOST_MEMORY = 19
    UNIFIED_ADDRESSING = 41
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76
    MANAGED_MEMORY = 83


_initialized = threading.Event()
_stacks = threading.local()
_numbers = itertools.count(1)


def init(flags: int = 0) -> None:
    """Must come first, as with CUDA; ``autoinit`` calls it. ``flags`` must be 0, as CUDA has none."""
    if flags:
        raise failed("cuInit", "invalid argument", f"flags must be 0, got {flags}")
    _initialized.set()


def get_version() -> tuple[int, int, int]:
    """The CUDA version that pycuda would have been compiled against: none, (0, 0, 0)."""
    return (0, 0, 0)


def get_driver_version() -> int:
    """The CUDA driver's version: 0, as no driver is behind this."""
    return 0


def _require_init(call: str) -> None:
    if not _initialized.is_set():
        raise failed(call, "not initialized", "call init(), or import trine.compat.pycuda.autoinit, first")


def _stack() -> list[Context]:
    """The calling thread's contexts, the current one last."""
    if not hasattr(_stacks, "contexts"):
        _stacks.contexts = []
    contexts: list[Context] = _stacks.contexts
    return contexts


def current_context(call: str) -> Context:
    """The calling thread's current context. Raises LogicError, as from the driver call ``call``, without one."""
    _require_init(call)
    stack = _stack()
    if not stack:
        raise failed(
            call,
            "invalid device context",
            "no currently active context? Import trine.compat.pycuda.autoinit; in another thread than the one that "
            "made the context, call its push() first and pop() at the end",
        )
    return stack[-1]


class Device:
    """The device number 0: this machine's CPU."""

    def __init__(self, number: int | str) -> None:
        _require_init("cuDeviceGet")
        if isinstance(number, str) or number != 0:
            raise failed("cuDeviceGet", "invalid device ordinal", f"the only device is 0, the CPU; got {number!r}")

    @staticmethod
    def count() -> int:
        """1: the CPU."""
        _require_init("cuDeviceGetCount")
        return 1

    def name(self) -> str:
        """The CPU's name."""
        return cpu_model()

    def pci_bus_id(self) -> str:
        """Refused: a CPU is on no PCI bus."""
        raise failed("cuDeviceGetPCIBusId", "operation not supported", "the device is the CPU, which has no bus id")

    def compute_capability(self) -> tuple[int, int]:
        """(0, 0): the CPU has no CUDA compute capability."""
        return (0, 0)

    def total_memory(self) -> int:
        """This machine's memory in bytes; 0 where the system does not say."""
        return memory.total_bytes() or 0

    def get_attribute(self, attribute: int) -> int:
        """The value of a ``device_attribute``. Raises LogicError for those that only a GPU has."""
        values = {
            device_attribute.MULTIPROCESSOR_COUNT: usable_cores(),
            device_attribute.INTEGRATED: 1,
            device_attribute.CAN_MAP_HOST_MEMORY: 1,
            device_attribute.UNIFIED_ADDRESSING: 1,
            device_attribute.COMPUTE_CAPABILITY_MAJOR: 0,
            device_attribute.COMPUTE_CAPABILITY_MINOR: 0,
            device_attribute.MANAGED_MEMORY: 1,
        }
        if attribute not in values:
            known = ", ".join(member.name for member in device_attribute)
            raise failed("cuDeviceGetAttribute", "invalid argument", f"the CPU has no {attribute!r}; it has {known}")
        return values[device_attribute(attribute)]

    def get_attributes(self) -> dict[device_attribute, int]:
        """Every attribute that the CPU has."""
        return {attribute: self.get_attribute(attribute) for attribute in device_attribute}

    def __getattr__(self, name: str) -> int:
        member = device_attribute.__members__.get(name.upper())
        if member is None:
            raise AttributeError(f"the CPU device has no attribute {name!r}")
        return self.get_attribute(member)

    def make_context(self, flags: int = ctx_flags.SCHED_AUTO) -> Context:
        """A new context, which becomes the calling thread's current one."""
        context = Context(self, flags)
        _stack().append(context)
        return context

    def retain_primary_context(self) -> Context:
        """The context that everything in this process may share; it becomes current with ``push``."""
        return _primary(self)

    def can_access_peer(self, other: Device) -> bool:
        """False: there is no other device."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __hash__(self) -> int:
        return hash(Device)

    def __repr__(self) -> str:
        return f"<trine.compat.pycuda.Device 0: {self.name()}>"


class Context:
    """What device memory and streams belong to. Ends, with its memory, when it is detached.

    Made by ``Device.make_context``; current for a thread between ``push`` and ``pop``.
    """

    def __init__(self, device: Device, flags: int = 0) -> None:
        self._device = device
        self._flags = int(flags)
        self._alive = True
        self._allocations: weakref.WeakSet[DeviceAllocation] = weakref.WeakSet()
        self.handle = next(_numbers)

    def require_alive(self, call: str) -> None:
        """Raises LogicError, as from the driver call ``call``, after ``detach``."""
        if not self._alive:
            raise failed(call, "invalid device context", "this context was detached; make another with make_context()")

    def own(self, allocation: DeviceAllocation) -> None:
        """``allocation`` is freed when the context ends."""
        self._allocations.add(allocation)

    def push(self) -> None:
        """Makes this the calling thread's current context."""
        self.require_alive("cuCtxPushCurrent")
        _stack().append(self)

    @staticmethod
    def pop() -> None:
        """The calling thread's current context is so no more; the one below it is again.

        Called on a context or on the class. Raises LogicError when there is none.
        """
        if not _stack():
            raise failed("context::pop", "invalid device context", "cannot pop: this thread has no current context")
        _stack().pop()

    def detach(self) -> None:
        """Ends the context: its device memory is freed. Raises LogicError the second time."""
        if not self._alive:
            raise failed("context::detach", "invalid device context", "cannot detach twice")
        self._alive = False
        for allocation in list(self._allocations):
            allocation.end()
        stack = _stack()
        stack[:] = [context for context in stack if context is not self]

    @staticmethod
    def synchronize() -> None:
        """Returns at once: a stream's work is done when its call returns."""
        current_context("cuCtxSynchronize")

    @staticmethod
    def get_device() -> Device:
        """The device of the calling thread's current context."""
        return current_context("cuCtxGetDevice")._device

    @staticmethod
    def get_current() -> Context | None:
        """The calling thread's current context; None without one."""
        stack = _stack()
        return stack[-1] if stack else None

    def get_flags(self) -> int:
        """The flags that it was made with."""
        return self._flags

    def get_api_version(self) -> int:
        """0: there is no CUDA behind it."""
        return 0

    @staticmethod
    def set_limit(limit: Any, value: int) -> None:
        """Refused: the limits of CUDA kernels have nothing to limit here."""
        raise failed("cuCtxSetLimit", "operation not supported", "there are no kernels whose stack or heap to limit")

    def __repr__(self) -> str:
        return f"<trine.compat.pycuda.Context {self.handle}{'' if self._alive else ', detached'}>"


_primary_lock = threading.Lock()
_primary_contexts: list[Context] = []


def _primary(device: Device) -> Context:
    """The one primary context; made anew once it was detached."""
    with _primary_lock:
        if not _primary_contexts or not _primary_contexts[0]._alive:
            _primary_contexts[:] = [Context(device)]
        return _primary_contexts[0]
