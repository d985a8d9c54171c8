"""What programs derive from, to be called by TensorRT: profilers, monitors, recorders, allocators, streams, listeners.

Each ``__init__`` does nothing, but is there because TensorRT asks derived classes to call it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from trine.compat.tensorrt.eras import govern

__all__ = [
    "FallbackString",
    "IDebugListener",
    "IErrorRecorder",
    "IGpuAllocator",
    "IGpuAsyncAllocator",
    "IOutputAllocator",
    "IProfiler",
    "IProgressMonitor",
    "IStreamReader",
    "IStreamReaderV2",
    "IStreamWriter",
    "IVersionedInterface",
    "InterfaceInfo",
    "Profiler",
]


def _undefined(instance: object, method: str) -> NotImplementedError:
    return NotImplementedError(f"{type(instance).__name__} must define {method}")


class InterfaceInfo:
    """Which interface a class implements, and its version."""

    kind: str = ""
    major: int = 1
    minor: int = 0

    def __init__(self, kind: str = "", major: int = 1, minor: int = 0) -> None:
        self.kind, self.major, self.minor = kind, major, minor


@govern
class IVersionedInterface:
    """Base of the interfaces that say their version."""

    def __init__(self) -> None:
        """Nothing to set up."""

    @property
    def api_language(self) -> Any:
        """PYTHON: what programs derive in Python."""
        from trine.compat.tensorrt.enums import current

        return current("APILanguage").PYTHON

    @property
    def interface_info(self) -> InterfaceInfo:
        """The interface's name and version 1.0."""
        return InterfaceInfo(type(self).__name__)


class FallbackString:
    """Text that may hold bytes that are not UTF-8."""

    def __init__(self, text: str = "") -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


@govern
class IProfiler:
    """Is told each layer's time after an execution. Derive from it and define ``report_layer_time``."""

    def __init__(self) -> None:
        """Nothing to set up."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Take one layer's time in milliseconds."""
        raise _undefined(self, "report_layer_time(layer_name, ms)")


@govern
class Profiler(IProfiler):
    """Prints each layer's time."""

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Print it."""
        print(f"{layer_name}: {ms}ms")


@govern
class IProgressMonitor(IVersionedInterface):
    """Is told how a build proceeds. Derive from it and define all three methods."""

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase of ``num_steps`` steps begins, within ``parent_phase``."""
        raise _undefined(self, "phase_start(phase_name, parent_phase, num_steps)")

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Step ``step`` is done. Returns whether to go on: False ends the build, which then gives None."""
        raise _undefined(self, "step_complete(phase_name, step)")

    def phase_finish(self, phase_name: str) -> None:
        """A phase is over."""
        raise _undefined(self, "phase_finish(phase_name)")


@govern
class IErrorRecorder(IVersionedInterface):
    """Keeps errors. Derive from it and define the methods; ``num_errors`` may be one too."""

    MAX_DESC_LENGTH: ClassVar[int] = 127

    def num_errors(self) -> int:
        """How many are kept."""
        raise _undefined(self, "num_errors")

    def get_error_code(self, arg0: int) -> Any:
        """The code of one."""
        raise _undefined(self, "get_error_code(index)")

    def get_error_desc(self, arg0: int) -> str:
        """The text of one."""
        raise _undefined(self, "get_error_desc(index)")

    def has_overflowed(self) -> bool:
        """Whether some were lost."""
        raise _undefined(self, "has_overflowed")

    def clear(self) -> None:
        """Forget all."""
        raise _undefined(self, "clear")

    def report_error(self, arg0: Any, arg1: str) -> bool:
        """Take one: a member of ErrorCodeTRT and a text."""
        raise _undefined(self, "report_error(code, desc)")


@govern
class IOutputAllocator(IVersionedInterface):
    """Gives memory for an output whose size is known only after an execution, and is told its shape.

    Derive from it and define ``reallocate_output`` (or ``reallocate_output_async``) and ``notify_shape``.
    """

    def reallocate_output(self, tensor_name: str, memory: int, size: int, alignment: int) -> int:
        """The address of at least ``size`` bytes; ``memory`` is what was given before, or 0."""
        raise _undefined(self, "reallocate_output(tensor_name, memory, size, alignment)")

    def notify_shape(self, tensor_name: str, shape: Any) -> None:
        """The output's shape, before its data are there."""
        raise _undefined(self, "notify_shape(tensor_name, shape)")


@govern
class IGpuAllocator(IVersionedInterface):
    """Gives device memory. The CPU engine has none to ask for: accepted, never called."""

    def allocate(self, size: int, alignment: int, flags: int) -> int | None:
        """An address, or None."""
        raise _undefined(self, "allocate(size, alignment, flags)")

    def deallocate(self, memory: int) -> bool:
        """Free an address."""
        raise _undefined(self, "deallocate(memory)")

    def free(self, memory: int) -> bool:
        """Free an address, as TensorRT 8 called it."""
        return self.deallocate(memory)

    def reallocate(self, address: int, alignment: int, new_size: int) -> int | None:
        """Make a block larger; None where that cannot be done."""
        return None

    def allocate_async(self, size: int, alignment: int, flags: int, stream: int) -> int | None:
        """An address, in a stream's order."""
        return self.allocate(size, alignment, flags)

    def deallocate_async(self, memory: int, stream: int) -> bool:
        """Free an address, in a stream's order."""
        return self.deallocate(memory)


@govern
class IGpuAsyncAllocator(IGpuAllocator):
    """Gives device memory in a stream's order. Accepted, never called."""


@govern
class IDebugListener(IVersionedInterface):
    """Is shown the tensors marked for debugging. Derive from it and define ``process_debug_tensor``."""

    def process_debug_tensor(self, addr: int, location: Any, type: Any, shape: Any, name: str, stream: int) -> bool:  # noqa: A002
        """One tensor: its address, where that is, its type and shape."""
        raise _undefined(self, "process_debug_tensor(addr, location, type, shape, name, stream)")


@govern
class IStreamReader:
    """Gives a plan in pieces. Derive from it and define ``read``."""

    def __init__(self) -> None:
        """Nothing to set up."""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        raise _undefined(self, "read(size)")


@govern
class IStreamReaderV2(IVersionedInterface):
    """Gives a plan in pieces, from where one likes. Derive from it and define ``read`` and ``seek``."""

    def read(self, num_bytes: int, stream: int) -> bytes:
        """At most ``num_bytes`` bytes; none at the end."""
        raise _undefined(self, "read(num_bytes, stream)")

    def seek(self, offset: int, where: Any) -> bool:
        """Go to ``offset`` from the start, from here or from the end."""
        raise _undefined(self, "seek(offset, where)")


@govern
class IStreamWriter(IVersionedInterface):
    """Takes a plan in pieces. Derive from it and define ``write``."""

    def write(self, data: bytes) -> int:
        """Take bytes; returns how many were taken."""
        raise _undefined(self, "write(data)")
