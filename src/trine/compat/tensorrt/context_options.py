"""A context's options: who is told what, and what is about GPUs only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt.enums import current
from trine.compat.tensorrt.eras import Checked

if TYPE_CHECKING:
    from trine.compat.tensorrt.logger import Reporter

__all__ = ["ContextOptions"]


class ContextOptions(Checked):
    """See ``IExecutionContext``, which has these."""

    _reporter: Reporter

    def _set_up_options(self) -> None:
        self._name = ""
        self._profiler: Any = None
        self._emits_profile = True
        self._listener: Any = None
        self._temporary_allocator: Any = None
        self._debug_sync = False
        self._cache_limit = 0
        self._nvtx = "LAYER_NAMES_ONLY"
        self._event = 0
        self._device_memory = 0

    @property
    def name(self) -> str:
        """For people."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = str(name)

    @property
    def profiler(self) -> Any:
        """Is told layers' times after each call."""
        return self._profiler

    @profiler.setter
    def profiler(self, profiler: Any) -> None:
        if profiler is not None and not callable(getattr(profiler, "report_layer_time", None)):
            raise TypeError(f"expected a tensorrt.IProfiler, got {type(profiler).__name__}")
        self._profiler = profiler

    @property
    def enqueue_emits_profile(self) -> bool:
        """Whether each call tells the profiler; else ``report_to_profiler`` does."""
        return self._emits_profile

    @enqueue_emits_profile.setter
    def enqueue_emits_profile(self, value: bool) -> None:
        self._emits_profile = bool(value)

    @property
    def error_recorder(self) -> Any:
        """Is told errors too."""
        return self._reporter.recorder

    @error_recorder.setter
    def error_recorder(self, recorder: Any) -> None:
        self._reporter.recorder = recorder

    # Tensors to be listened to: there can be none, see INetworkDefinition.mark_debug.

    def set_debug_listener(self, listener: Any) -> bool:
        """Keep a listener. It is never called: no tensor can be marked."""
        self._listener = listener
        return True

    def get_debug_listener(self) -> Any:
        """What ``set_debug_listener`` was given."""
        return self._listener

    def set_tensor_debug_state(self, name: str, flag: bool) -> bool:
        """False: no tensor can be marked."""
        self._reporter.error("IExecutionContext::setTensorDebugState", f"{name!r} was not marked for debugging")
        return False

    def set_all_tensors_debug_state(self, flag: bool) -> bool:
        """True: there are none."""
        return True

    def get_debug_state(self, name: str) -> bool:
        """False: no tensor can be marked."""
        return False

    @property
    def unfused_tensors_debug_state(self) -> bool:
        """False: no tensor can be marked."""
        return False

    @unfused_tensors_debug_state.setter
    def unfused_tensors_debug_state(self, flag: bool) -> None:
        """Nothing: there are none."""

    # Memory and streams of GPUs: kept and shown.

    @property
    def debug_sync(self) -> bool:
        """Kept and shown: a call always waits for its end."""
        return self._debug_sync

    @debug_sync.setter
    def debug_sync(self, value: bool) -> None:
        self._debug_sync = bool(value)

    @property
    def temporary_allocator(self) -> Any:
        """Kept, never called: the backends allocate what they need."""
        return self._temporary_allocator

    @temporary_allocator.setter
    def temporary_allocator(self, allocator: Any) -> None:
        self._temporary_allocator = allocator

    @property
    def device_memory(self) -> int:
        """Kept and shown: no device memory is needed."""
        return self._device_memory

    @device_memory.setter
    def device_memory(self, memory: int) -> None:
        self._device_memory = int(memory)

    def set_device_memory(self, memory: int, size: int) -> None:
        """Kept: no device memory is needed."""
        self._device_memory = int(memory)

    def update_device_memory_size_for_shapes(self) -> int:
        """0: no device memory is needed."""
        return 0

    @property
    def persistent_cache_limit(self) -> int:
        """Kept and shown: a GPU's L2 cache."""
        return self._cache_limit

    @persistent_cache_limit.setter
    def persistent_cache_limit(self, limit: int) -> None:
        self._cache_limit = int(limit)

    @property
    def nvtx_verbosity(self) -> Any:
        """Kept and shown: what NVIDIA's profilers are told."""
        return current("ProfilingVerbosity")[self._nvtx]

    @nvtx_verbosity.setter
    def nvtx_verbosity(self, verbosity: Any) -> None:
        self._nvtx = verbosity.name

    def set_aux_streams(self, aux_streams: Any) -> None:
        """Nothing: a CPU has no streams."""

    def set_input_consumed_event(self, event: int) -> bool:
        """Kept: inputs are consumed when a call returns."""
        self._event = int(event)
        return True

    def get_input_consumed_event(self) -> int:
        """What ``set_input_consumed_event`` was given."""
        return self._event

    def set_communicator(self, communicator: Any) -> bool:
        """False: one process computes everything."""
        self._reporter.error("IExecutionContext::setCommunicator", "trine computes in one process", "UNSUPPORTED_STATE")
        return False

    def get_runtime_config(self) -> Any:
        """Options that a context can be made with, as they are at first."""
        from trine.compat.tensorrt.runtime_options import IRuntimeConfig

        return IRuntimeConfig()
