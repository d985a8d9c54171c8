"""IBuilderConfig: how to build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.config_devices import DeviceOptions
from trine.compat.tensorrt.enums import TensorRTEnum, current, mask_of, names_in
from trine.compat.tensorrt.eras import warn_retired
from trine.compat.tensorrt.profile import IOptimizationProfile
from trine.compat.tensorrt.timing_cache import ITimingCache

if TYPE_CHECKING:
    from trine.compat.tensorrt.logger import Reporter

__all__ = ["IBuilderConfig"]

# Flags that change nothing on a CPU, or in trine, and why. The others act: see building.py.
WITHOUT_EFFECT = {
    "DEBUG": "layers are not synchronised one by one; one call runs the whole graph",
    "GPU_FALLBACK": "there is no DLA to fall back from",
    "TF32": "a CPU computes fp32 in fp32",
    "SPARSE_WEIGHTS": "the CPU's backends find sparsity by themselves",
    "SAFETY_SCOPE": "trine has no safety-certified runtime",
    "OBEY_PRECISION_CONSTRAINTS": "precision is chosen for the whole graph",
    "PREFER_PRECISION_CONSTRAINTS": "precision is chosen for the whole graph",
    "STRICT_TYPES": "precision is chosen for the whole graph",
    "DIRECT_IO": "inputs and outputs are never reformatted: their layout is linear",
    "REJECT_EMPTY_ALGORITHMS": "there are no algorithm selectors",
    "VERSION_COMPATIBLE": "every engine of trine is: it holds the portable graph",
    "EXCLUDE_LEAN_RUNTIME": "an engine of trine holds no runtime",
    "DISABLE_COMPILATION_CACHE": "nothing is compiled just in time",
    "WEIGHT_STREAMING": "weights stay in the host's memory, where they are mapped",
    "STRICT_NANS": "verified builds refuse NaN and infinity that the source does not give",
    "MONITOR_MEMORY": "a CPU's memory is the process's",
    "EDITABLE_TIMING_CACHE": "timings are kept for the whole graph",
    "DISTRIBUTIVE_INDEPENDENCE": "no tactic splits sums differently for different shapes on purpose",
    "ENABLE_TACTIC_HEURISTIC": "tactics are timed; there are few",
    "ERROR_ON_TIMING_CACHE_MISS": "timings are made where they are missing",
    "REFIT_INDIVIDUAL": "REFIT lets every named weight be changed",
}


class IBuilderConfig(DeviceOptions):
    """How to build. Made by ``Builder.create_builder_config``."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._clear()

    def _clear(self) -> None:
        self._clear_devices()
        self._flags: set[str] = {"TF32"}
        self._quantization_flags: set[str] = set()
        self._profiles: list[IOptimizationProfile] = []
        self._calibration_profile: IOptimizationProfile | None = None
        self._cache: ITimingCache | None = None
        self._verbosity = "LAYER_NAMES_ONLY"
        self._capability = "STANDARD"

    def reset(self) -> None:
        """Every option as it was at first."""
        self._clear()

    # Flags.

    @property
    def flags(self) -> int:
        """A mask of the flags set."""
        return mask_of("BuilderFlag", self._flags)

    @flags.setter
    def flags(self, mask: int) -> None:
        wanted = names_in("BuilderFlag", mask)
        for flag in current("BuilderFlag"):
            if flag.name in wanted:
                self.set_flag(flag)
            else:
                self.clear_flag(flag)

    def set_flag(self, flag: Any) -> None:
        """Set a BuilderFlag. One that has no effect here is logged with the reason."""
        name = _flag("BuilderFlag", flag)
        self._flags.add(name)
        if name in WITHOUT_EFFECT and name != "TF32":
            self._reporter.warning(f"BuilderFlag.{name} has no effect: {WITHOUT_EFFECT[name]}")

    def clear_flag(self, flag: Any) -> None:
        """Take a BuilderFlag back."""
        self._flags.discard(_flag("BuilderFlag", flag))

    def get_flag(self, flag: Any) -> bool:
        """Whether a BuilderFlag is set."""
        return _flag("BuilderFlag", flag) in self._flags

    @property
    def quantization_flags(self) -> int:
        """A mask of the quantization flags set."""
        return mask_of("QuantizationFlag", self._quantization_flags)

    @quantization_flags.setter
    def quantization_flags(self, mask: int) -> None:
        self._quantization_flags = names_in("QuantizationFlag", mask)

    def set_quantization_flag(self, flag: Any) -> None:
        """Set a QuantizationFlag."""
        self._quantization_flags.add(_flag("QuantizationFlag", flag))

    def clear_quantization_flag(self, flag: Any) -> None:
        """Take a QuantizationFlag back."""
        self._quantization_flags.discard(_flag("QuantizationFlag", flag))

    def get_quantization_flag(self, flag: Any) -> bool:
        """Whether a QuantizationFlag is set."""
        return _flag("QuantizationFlag", flag) in self._quantization_flags

    # Shapes and calibration.

    @property
    def num_optimization_profiles(self) -> int:
        """How many profiles were added."""
        return len(self._profiles)

    def add_optimization_profile(self, profile: Any) -> int:
        """Add a profile; gives its number. Raises TypeError for what is none."""
        if not isinstance(profile, IOptimizationProfile):
            raise TypeError(f"expected a tensorrt.IOptimizationProfile, got {type(profile).__name__}")
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        """The shapes to calibrate at."""
        self._calibration_profile = profile
        return True

    def get_calibration_profile(self) -> IOptimizationProfile | None:
        """What ``set_calibration_profile`` was given."""
        return self._calibration_profile

    int8_calibrator: Any = options.kept("int8_calibrator", None, "Gives batches for INT8.")

    # What watches a build, and what it remembers.

    progress_monitor: Any = options.kept("progress_monitor", None, "Is told how a build proceeds, and may end it.")

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache | None:
        """A cache from what ``serialize`` gave earlier, or an empty one from empty bytes; None for other bytes."""
        return ITimingCache._from_bytes(bytes(serialized_timing_cache), self._reporter)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        """Use and extend this cache."""
        if not isinstance(cache, ITimingCache):
            self._reporter.error("IBuilderConfig::setTimingCache", f"expected an ITimingCache, got {cache!r}")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        """The cache in use."""
        return self._cache

    @property
    def profiling_verbosity(self) -> Any:
        """How much the inspector says."""
        return current("ProfilingVerbosity")[self._verbosity]

    @profiling_verbosity.setter
    def profiling_verbosity(self, verbosity: Any) -> None:
        self._verbosity = _flag("ProfilingVerbosity", verbosity)

    @property
    def engine_capability(self) -> Any:
        """STANDARD; safety and DLA engines cannot be built here."""
        return current("EngineCapability")[self._capability]

    @engine_capability.setter
    def engine_capability(self, capability: Any) -> None:
        self._capability = _flag("EngineCapability", capability)

    @property
    def max_workspace_size(self) -> int:
        """The limit of the WORKSPACE pool (TensorRT 8 and older)."""
        warn_retired("IBuilderConfig.max_workspace_size", "get_memory_pool_limit(MemoryPoolType.WORKSPACE)")
        return self._pools["WORKSPACE"]

    @max_workspace_size.setter
    def max_workspace_size(self, nbytes: int) -> None:
        warn_retired("IBuilderConfig.max_workspace_size", "set_memory_pool_limit(MemoryPoolType.WORKSPACE, nbytes)")
        self._pools["WORKSPACE"] = int(nbytes)

    def __enter__(self) -> IBuilderConfig:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the config goes with the last reference."""


def _flag(kind: str, value: Any) -> str:
    """The name of a member of ``kind``. Raises TypeError for what is none, as TensorRT's bindings do."""
    members = current(kind).__members__
    if not isinstance(value, TensorRTEnum) or type(value).__name__ != kind or value.name not in members:
        raise TypeError(f"expected a member of tensorrt.{kind}, got {value!r}")
    return str(value.name)
