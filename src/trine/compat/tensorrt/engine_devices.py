"""What an engine says of NVIDIA's devices, their memory and their streams: it needs none."""

from __future__ import annotations

from typing import Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.enums import current
from trine.compat.tensorrt.eras import Checked

__all__ = ["EngineDevices"]


class EngineDevices(Checked):
    """See ``ICudaEngine``, which has these."""

    @property
    def hardware_compatibility_level(self) -> Any:
        """NONE: engines of trine run on every CPU, which NVIDIA has no level for."""
        return current("HardwareCompatibilityLevel").NONE

    @property
    def tactic_sources(self) -> int:
        """0: no kernel is NVIDIA's."""
        return 0

    @property
    def num_aux_streams(self) -> int:
        """0: a CPU has no streams."""
        return 0

    # Memory: what a context needs is the backend's, which does not say how much.

    @property
    def device_memory_size(self) -> int:
        """0: no device memory is needed."""
        return 0

    device_memory_size_v2 = device_memory_size

    def get_device_memory_size_for_profile(self, profile_index: int) -> int:
        """0: no device memory is needed."""
        return 0

    get_device_memory_size_for_profile_v2 = get_device_memory_size_for_profile

    @property
    def streamable_weights_size(self) -> int:
        """0: weights stay where they are."""
        return 0

    minimum_weight_streaming_budget = streamable_weights_size
    weight_streaming_scratch_memory_size = streamable_weights_size

    def get_weight_streaming_automatic_budget(self) -> int:
        """0: weights stay where they are."""
        return 0

    weight_streaming_budget = options.kept("weight_streaming_budget", 0, "Kept and shown: weights stay where they are.")

    weight_streaming_budget_v2 = weight_streaming_budget
