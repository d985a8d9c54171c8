"""NVIDIA's driver, as far as the runtime uses it: memory, kernels, graphs, streams. Every refusal is an exception."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from trine.errors import DeviceError, DeviceMemoryError, NoDeviceError
from trine.runtime.array_libraries import allocator_hint
from trine.runtime.cuda.bindings import usable_driver, visible_devices
from trine.runtime.cuda.borrowed import check_stream, device_of
from trine.runtime.cuda.faults import refusal
from trine.runtime.cuda.parameters import ParameterBlock
from trine.runtime.cuda.tensor_map import encode_tensor_map

__all__ = ["Driver", "usable_driver"]

_MIB = 1 << 20


class _Current:
    """Makes a context the calling thread's, and afterwards the one that was before: PyTorch may be at another GPU."""

    __slots__ = ("_call", "_context")

    def __init__(self, call: Any, context: Any) -> None:
        self._call, self._context = call, context

    def __enter__(self) -> None:
        self._call("cuCtxPushCurrent", self._context)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self._call("cuCtxPopCurrent")
        except DeviceError:
            if error is None:  # else it says the same less clearly
                raise


class _Closed:
    """In the place of a context that was let go of: to make that current might be anything."""

    __slots__ = ("_ordinal",)

    def __init__(self, ordinal: int) -> None:
        self._ordinal = ordinal

    def __enter__(self) -> None:
        raise DeviceError(f"cuda:{self._ordinal}: what was open on it has been closed; load the engine again")

    def __exit__(self, *args: object) -> None:
        """Never entered."""


class Driver:
    """A GpuDriver by its primary context, which PyTorch and CuPy use too. Handles are the bindings' own objects."""

    def __init__(self, ordinal: int = 0) -> None:
        """The GPU becomes the calling thread's if that has none yet.

        Raises NoDeviceError when there is no such GPU, or when it takes no work.
        """
        self.cu = usable_driver()
        self.ordinal = ordinal
        count = self._call("cuDeviceGetCount")
        if not 0 <= ordinal < count:
            there = "there is 1 GPU" if count == 1 else f"there are {count} GPUs"
            last = f"; the last is cuda:{count - 1}" if count else '; load the engine with device="cpu"'
            raise NoDeviceError(f"cuda:{ordinal}: {there} here{last}{visible_devices()}")
        self.device = self._call("cuDeviceGet", ordinal)
        try:
            self._context = self._call("cuDevicePrimaryCtxRetain", self.device)
        except (DeviceMemoryError, NoDeviceError):
            raise
        except DeviceError as err:
            raise NoDeviceError(f"{err}: the GPU takes no work; see with nvidia-smi whether others hold it") from err
        self.current: AbstractContextManager[None] = _Current(self._call, self._context)
        self._closed = False
        self._activated = int(self._call("cuCtxGetCurrent")) == 0
        if self._activated:
            self._call("cuCtxSetCurrent", self._context)

    def _call(self, function: str, *args: Any) -> Any:
        return self._ask(function, *args)[1]

    def _ask(self, function: str, *args: Any, no: str = "") -> tuple[bool, Any]:
        """Whether the driver did it, and what it gave. The status called ``no`` is an answer, others are refusals."""
        status, *results = getattr(self.cu, function)(*args)
        if int(status) != 0 and status.name != no:
            self._refuse(function, status.name)
        return int(status) == 0, results[0] if len(results) == 1 else tuple(results) or None

    def _refuse(self, function: str, name: str) -> None:
        if name == "CUDA_ERROR_OUT_OF_MEMORY":
            raise DeviceMemoryError(f"cuda:{self.ordinal}: out of memory in {function}; {self._memory_left()}")
        raise refusal(name, function, self.ordinal, lambda: self.capability)

    def _memory_left(self) -> str:
        try:
            free, total = self.memory()
        except DeviceError:  # there is not even a context to ask in
            return "close other programs that use the GPU"
        hint = allocator_hint()
        return f"{free // _MIB} of {total // _MIB} MiB are free; close other engines, or build with a smaller batch" + (
            f"; {hint} gives back what is kept for later arrays" if hint else ""
        )

    def close(self) -> None:
        """Let go of the context; once is enough. It ends when PyTorch, CuPy and others have let go of it too."""
        if not self._closed:
            self._closed = True
            self.current = _Closed(self.ordinal)
            if self._activated and int(self._call("cuCtxGetCurrent")) == int(self._context):
                self._call("cuCtxSetCurrent", None)
            self._call("cuDevicePrimaryCtxRelease", self.device)

    @functools.cached_property
    def capability(self) -> int:
        """90 for sm_90."""
        kinds = self.cu.CUdevice_attribute
        major = self._call("cuDeviceGetAttribute", kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, self.device)
        minor = self._call("cuDeviceGetAttribute", kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, self.device)
        return int(major) * 10 + int(minor)

    @functools.cached_property
    def shared_bytes(self) -> int:
        """Shared memory that a block may have."""
        kind = self.cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        return int(self._call("cuDeviceGetAttribute", kind, self.device))

    @functools.cached_property
    def name(self) -> str:
        """As nvidia-smi has it: "NVIDIA H200"."""
        text: bytes = self._call("cuDeviceGetName", 256, self.device)
        return text.split(b"\0")[0].decode()

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    # Memory. Addresses are ints.

    def allocate(self, nbytes: int, what: str) -> int:
        """Device memory. Raises DeviceMemoryError, which says what it was for."""
        try:
            return int(self._call("cuMemAlloc", max(nbytes, 256)))
        except DeviceMemoryError as err:
            raise DeviceMemoryError(
                f"cuda:{self.ordinal}: {what} needs {-(-nbytes // _MIB)} MiB; {self._memory_left()}"
            ) from err

    def free(self, address: int) -> None:
        """Of what ``allocate`` gave."""
        self._call("cuMemFree", address)

    def device_of(self, address: int) -> int | None:
        """See GpuDriver."""
        return device_of(self._ask, self.cu.CUpointer_attribute, self.ordinal, address)

    def allocate_pinned(self, nbytes: int) -> int:
        """Host memory that copies to the device at full speed. Raises DeviceMemoryError when there is too little."""
        try:
            return int(self._call("cuMemHostAlloc", max(nbytes, 256), 0))
        except DeviceMemoryError as err:
            raise DeviceMemoryError(
                f"cuda:{self.ordinal}: the host, not the GPU, has no {-(-nbytes // _MIB)} MiB for pinned memory, "
                "through which NumPy's arrays go; free host memory, call with fewer rows, or pass arrays on the GPU"
            ) from err

    def free_pinned(self, address: int) -> None:
        """Of what ``allocate_pinned`` gave."""
        self._call("cuMemFreeHost", address)

    def fill(self, address: int, byte: int, nbytes: int, stream: Any) -> None:
        """Set bytes."""
        if nbytes:
            self._call("cuMemsetD8Async", address, byte, nbytes, stream)

    def upload(self, address: int, host: int, nbytes: int, stream: Any) -> None:
        """Host to device."""
        if nbytes:
            self._call("cuMemcpyHtoDAsync", address, host, nbytes, stream)

    def download(self, host: int, address: int, nbytes: int, stream: Any) -> None:
        """Device to host."""
        if nbytes:
            self._call("cuMemcpyDtoHAsync", host, address, nbytes, stream)

    # Streams and events.

    def stream(self) -> Any:
        """A new one, independent of the default stream."""
        return self._call("cuStreamCreate", self.cu.CUstream_flags.CU_STREAM_NON_BLOCKING)

    def as_stream(self, handle: int) -> Any:
        """The stream of another library, by its handle."""
        return self.cu.CUstream(handle)

    def check_stream(self, stream: Any) -> None:
        """See GpuDriver."""
        check_stream(self._call, self._ask, self.ordinal, self._context, stream)

    def destroy_stream(self, stream: Any) -> None:
        """Of ``stream``."""
        self._call("cuStreamDestroy", stream)

    def synchronize(self, stream: Any) -> None:
        """Wait for all that is on it. Faults of kernels show here."""
        self._call("cuStreamSynchronize", stream)

    def event(self, timing: bool = False) -> Any:
        """A new event."""
        flags = self.cu.CUevent_flags
        return self._call("cuEventCreate", flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_DISABLE_TIMING)

    def record(self, event: Any, stream: Any) -> None:
        """Mark this moment of the stream."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: Any, event: Any) -> None:
        """Let the stream wait for the event, not the caller."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def is_done(self, event: Any) -> bool:
        """Whether what was on the stream, when the event was recorded, is done."""
        return self._ask("cuEventQuery", event, no="CUDA_ERROR_NOT_READY")[0]

    def elapsed_ms(self, before: Any, after: Any) -> float:
        """Between two recorded events that have happened."""
        return float(self._call("cuEventElapsedTime", before, after))

    def destroy_event(self, event: Any) -> None:
        """Of ``event``."""
        self._call("cuEventDestroy", event)

    # Kernels.

    def load_module(self, cubin: bytes) -> Any:
        """Raises NoDeviceError for another architecture's machine code."""
        return self._call("cuModuleLoadData", cubin)

    def unload_module(self, module: Any) -> None:
        """Of ``load_module``."""
        self._call("cuModuleUnload", module)

    def function(self, module: Any, symbol: str, shared_bytes: int) -> Any:
        """A kernel that may use ``shared_bytes`` of dynamic shared memory."""
        function = self._call("cuModuleGetFunction", module, symbol.encode())
        if shared_bytes > 48 * 1024:
            kind = self.cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call("cuFuncSetAttribute", function, kind, shared_bytes)
        return function

    def encode_tensor_map(self, description: Mapping[str, Any], address: int) -> bytes:
        """The 128 bytes of a TMA descriptor."""
        return encode_tensor_map(self.cu, self._call, description, address)

    # Graphs.

    def graph(self) -> Any:
        """An empty one."""
        return self._call("cuGraphCreate", 0)

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
        """See GpuDriver."""
        params = self._node_parameters(function, grid, threads, shared_bytes, parameters)
        before = [] if early else list(after)
        node = self._call("cuGraphAddKernelNode", graph, before, len(before), params)
        if early:
            self._start_early(graph, after, node)
        if cluster != (1, 1, 1):
            value = self.cu.CUkernelNodeAttrValue()
            value.clusterDim.x, value.clusterDim.y, value.clusterDim.z = cluster
            kind = self.cu.CUkernelNodeAttrID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
            self._call("cuGraphKernelNodeSetAttribute", node, kind, value)
        return node

    def _start_early(self, graph: Any, after: Sequence[Any], node: Any) -> None:
        """An edge for programmatic dependent launch. Raises DeviceError for a driver older than CUDA 12.3."""
        edge = self.cu.CUgraphEdgeData()
        edge.type = int(self.cu.CUgraphDependencyType.CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC)
        edge.from_port = int(self.cu.CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC)
        version_2 = "cuGraphAddDependencies_v2"  # the bindings of CUDA 12 call it that
        add = version_2 if hasattr(self.cu, version_2) else "cuGraphAddDependencies"
        try:
            self._call(add, graph, list(after), [node] * len(after), [edge] * len(after), len(after))
        except RuntimeError as err:  # the bindings' own: the driver has no such function
            if isinstance(err, DeviceError):
                raise
            raise DeviceError(f"cuda:{self.ordinal}: {err}; launches start early since CUDA 12.3") from err

    def _node_parameters(
        self, function: Any, grid: tuple[int, int, int], threads: int, shared_bytes: int, parameters: ParameterBlock
    ) -> Any:
        params = self.cu.CUDA_KERNEL_NODE_PARAMS()
        params.func = function
        params.gridDimX, params.gridDimY, params.gridDimZ = grid
        params.blockDimX, params.blockDimY, params.blockDimZ = threads, 1, 1
        params.sharedMemBytes = shared_bytes
        params.kernelParams = parameters.address
        params.extra = 0
        return params

    def instantiate(self, graph: Any) -> Any:
        """What can be launched."""
        return self._call("cuGraphInstantiate", graph, 0)

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
        params = self._node_parameters(function, grid, threads, shared_bytes, parameters)
        self._call("cuGraphExecKernelNodeSetParams", executable, node, params)

    def launch(self, executable: Any, stream: Any) -> None:
        """Run a graph on a stream."""
        self._call("cuGraphLaunch", executable, stream)

    def destroy_executable(self, executable: Any) -> None:
        """Of ``instantiate``."""
        self._call("cuGraphExecDestroy", executable)

    def destroy_graph(self, graph: Any) -> None:
        """Of ``graph``."""
        self._call("cuGraphDestroy", graph)
