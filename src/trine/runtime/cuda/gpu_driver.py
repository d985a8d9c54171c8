"""What the runtime asks of a GPU's driver: Driver has it over NVIDIA's, tests over one that records.

Addresses and sizes are whole numbers of bytes. Streams, events, modules, functions, graphs and nodes are the driver's
own objects. Every method may raise DeviceError, and DeviceLostError after a kernel's fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from trine.runtime.cuda.parameters import ParameterBlock

__all__ = ["GpuDriver"]


class GpuDriver(Protocol):
    """One GPU. Methods other than ``close`` are called inside of ``with driver.current:``."""

    ordinal: int  # 0 for cuda:0

    @property
    def capability(self) -> int:
        """90 for sm_90."""
        ...

    @property
    def shared_bytes(self) -> int:
        """Shared memory that a block may have."""
        ...

    @property
    def name(self) -> str:
        """As nvidia-smi has it."""
        ...

    @property
    def current(self) -> AbstractContextManager[object]:
        """Makes this GPU the calling thread's, and afterwards the one that was before."""
        ...

    def close(self) -> None:
        """Let go of the GPU's context."""
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        ...

    def allocate(self, nbytes: int, what: str) -> int:
        """Device memory. Raises DeviceMemoryError, which says what it was for."""
        ...

    def free(self, address: int) -> None:
        """Of what ``allocate`` gave."""
        ...

    def device_of(self, address: int) -> int | None:
        """The ordinal of the GPU that has this memory; this one's of memory that moves to where it is used. None: no
        GPU has it."""
        ...

    def allocate_pinned(self, nbytes: int) -> int:
        """Host memory that copies to the device at full speed. Raises DeviceMemoryError when there is too little."""
        ...

    def free_pinned(self, address: int) -> None:
        """Of what ``allocate_pinned`` gave."""
        ...

    def fill(self, address: int, byte: int, nbytes: int, stream: Any) -> None:
        """Set bytes."""
        ...

    def upload(self, address: int, host: int, nbytes: int, stream: Any) -> None:
        """Host to device."""
        ...

    def download(self, host: int, address: int, nbytes: int, stream: Any) -> None:
        """Device to host."""
        ...

    def stream(self) -> Any:
        """A new one, independent of the default stream."""
        ...

    def as_stream(self, handle: int) -> Any:
        """The stream of another library, by its handle."""
        ...

    def check_stream(self, stream: Any) -> None:
        """Raises InputError for a stream of another GPU or context, one that no longer exists, or one that is being
        captured into a CUDA graph."""
        ...

    def destroy_stream(self, stream: Any) -> None:
        """Of ``stream``."""
        ...

    def synchronize(self, stream: Any) -> None:
        """Wait for all that is on it."""
        ...

    def event(self, timing: bool = False) -> Any:
        """A new event."""
        ...

    def record(self, event: Any, stream: Any) -> None:
        """Mark this moment of the stream."""
        ...

    def wait(self, stream: Any, event: Any) -> None:
        """Let the stream wait for the event, not the caller."""
        ...

    def is_done(self, event: Any) -> bool:
        """Whether what was on the stream, when the event was recorded, is done."""
        ...

    def elapsed_ms(self, before: Any, after: Any) -> float:
        """Between two recorded events that have happened."""
        ...

    def destroy_event(self, event: Any) -> None:
        """Of ``event``."""
        ...

    def load_module(self, cubin: bytes) -> Any:
        """Raises NoDeviceError for another architecture's machine code."""
        ...

    def unload_module(self, module: Any) -> None:
        """Of ``load_module``."""
        ...

    def function(self, module: Any, symbol: str, shared_bytes: int) -> Any:
        """A kernel that may use ``shared_bytes`` of dynamic shared memory."""
        ...

    def encode_tensor_map(self, description: Mapping[str, Any], address: int) -> bytes:
        """The 128 bytes of a TMA descriptor."""
        ...

    def graph(self) -> Any:
        """An empty one."""
        ...

    def add_kernel(
        self,
        graph: Any,
        after: Sequence[Any],
        function: Any,
        grid: tuple[int, int, int],
        threads: int,
        shared_bytes: int,
        parameters: ParameterBlock,
        cluster: tuple[int, int, int] = (1, 1, 1),
        early: bool = False,
    ) -> Any:
        """A kernel node that runs after the nodes ``after``. The driver copies the parameters.

        early: it is started when all blocks of the one node in ``after`` have ended or given leave, before what they
        have written is there, and waits for that by itself.
        """
        ...

    def instantiate(self, graph: Any) -> Any:
        """What can be launched."""
        ...

    def update_kernel(
        self,
        executable: Any,
        node: Any,
        function: Any,
        grid: tuple[int, int, int],
        threads: int,
        shared_bytes: int,
        parameters: ParameterBlock,
    ) -> None:
        """Other parameters for later launches of an instantiated graph."""
        ...

    def launch(self, executable: Any, stream: Any) -> None:
        """Run a graph on a stream."""
        ...

    def destroy_executable(self, executable: Any) -> None:
        """Of ``instantiate``."""
        ...

    def destroy_graph(self, graph: Any) -> None:
        """Of ``graph``."""
        ...
