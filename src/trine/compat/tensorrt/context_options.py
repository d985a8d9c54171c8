"""A context's options: who is told what, and what is about GPUs only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.enums import current
from trine.compat.tensorrt.eras import Checked

if TYPE_CHECKING:
    from trine.compat.tensorrt.logger import Reporter

__all__ = ["ContextOptions"]


class ContextOptions(Checked):
    """See ``IExecutionContext``, which has these."""

    _reporter: Reporter

    def _set_up_options(self) -> None:
        self._profiler: Any = None
        self._listener: Any = None
        self._nvtx = "LAYER_NAMES_ONLY"
        self._event = 0

    name = options.kept("name", "", "For people.")

    @property
    def profiler(self) -> Any:
        """Is told layers' times after each call."""
        return self._profiler

    @profiler.setter
    def profiler(self, profiler: Any) -> None:
        if profiler is not None and not callable(getattr(profiler, "report_layer_time", None)):
            raise TypeError(f"expected a tensorrt.IProfiler, got {type(profiler).__name__}")
        self._profiler = profiler

    enqueue_emits_profile = options.kept(
        "enqueue_emits_profile", True, "Whether each call tells the profiler; else ``report_to_profiler`` does."
    )
    error_recorder = options.error_recorder

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

    debug_sync = options.kept("debug_sync", False, "Kept and shown: a call always waits for its end.")
    temporary_allocator: Any = options.kept(
        "temporary_allocator", None, "Kept, never called: the backends allocate what they need."
    )
    device_memory = options.kept("device_memory", 0, "Kept and shown: no device memory is needed.")

    def set_device_memory(self, memory: int, size: int) -> None:
        """Kept: no device memory is needed."""
        self.device_memory = memory

    def update_device_memory_size_for_shapes(self) -> int:
        """0: no device memory is needed."""
        return 0

    persistent_cache_limit = options.kept("persistent_cache_limit", 0, "Kept and shown: a GPU's L2 cache.")

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
