"""The builder options that are about NVIDIA's devices: kept and shown, without effect on the CPU engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.enums import current, mask_of_all
from trine.compat.tensorrt.eras import Checked

if TYPE_CHECKING:
    from trine.compat.tensorrt.layer import ILayer
    from trine.compat.tensorrt.logger import Reporter

__all__ = ["DeviceOptions"]


def _choice(name: str, kind: str, doc: str) -> Any:
    """An enum's member that is kept and shown; anything but the first is logged."""

    def get(self: Any) -> Any:
        return current(kind)[self._choices[name]]

    def put(self: Any, value: Any) -> None:
        chosen = current(kind)[value.name]
        self._choices[name] = chosen.name
        if int(chosen):
            self._reporter.warning(f"IBuilderConfig.{name} = {chosen.name} has no effect on the CPU engine")

    return property(get, put, doc=doc)


class DeviceOptions(Checked):
    """See ``IBuilderConfig``, which has these."""

    _reporter: Reporter

    def _clear_devices(self) -> None:
        options.forget_kept(self)
        self._choices = {
            "default_device_type": "GPU",
            "hardware_compatibility_level": "NONE",
            "runtime_platform": "SAME_AS_BUILD",
            "tiling_optimization_level": "NONE",
        }
        self._pools = dict.fromkeys(current("MemoryPoolType").__members__, 0)
        self._pools["WORKSPACE"] = 1 << 34
        self._device_types: dict[Any, str] = {}
        self._tactic_sources: int | None = None
        self._previews: dict[str, bool] = {}
        self._plugins: list[str] = []
        self._selector: Any = None
        self._remote = ""

    DLA_core = options.kept("DLA_core", -1, "Which DLA; there is none.")
    avg_timing_iterations = options.kept(
        "avg_timing_iterations", 1, "trine times each tactic until its median is steady."
    )
    min_timing_iterations = options.kept("min_timing_iterations", 1, "See ``avg_timing_iterations``.")
    builder_optimization_level = options.kept(
        "builder_optimization_level", 3, "trine always times all of its few tactics."
    )
    max_aux_streams = options.kept("max_aux_streams", -1, "A CPU has no streams.")
    max_num_tactics = options.kept("max_num_tactics", -1, "trine has one tactic for each backend and precision.")
    l2_limit_for_tiling = options.kept("l2_limit_for_tiling", -1, "The CPU's backends choose their own tiles.")
    profile_stream = options.kept("profile_stream", 0, "A CPU has no streams.")
    default_device_type = _choice("default_device_type", "DeviceType", "GPU or DLA; the engine runs on the CPU.")
    hardware_compatibility_level = _choice(
        "hardware_compatibility_level", "HardwareCompatibilityLevel", "Every engine of trine runs on every CPU."
    )
    runtime_platform = _choice("runtime_platform", "RuntimePlatform", "Every engine of trine runs on every platform.")
    tiling_optimization_level = _choice(
        "tiling_optimization_level", "TilingOptimizationLevel", "The CPU's backends choose their own tiles."
    )

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        """Limit a pool of device memory. Kept and shown: a CPU's backends allocate what they need."""
        self._pools[current("MemoryPoolType")[pool.name].name] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        """A pool's limit in bytes."""
        return self._pools[pool.name]

    def set_device_type(self, layer: ILayer, device_type: Any) -> None:
        """Where a layer shall run. Everything runs on the CPU."""
        self._device_types[layer] = device_type.name
        if device_type.name != "GPU":
            self._reporter.warning(f"layer {layer.name!r}: there is no {device_type.name} here; it runs on the CPU")

    def get_device_type(self, layer: ILayer) -> Any:
        """Where a layer was said to run."""
        return current("DeviceType")[self._device_types.get(layer, self._choices["default_device_type"])]

    def is_device_type_set(self, layer: ILayer) -> bool:
        """Whether ``set_device_type`` was called for it."""
        return layer in self._device_types

    def reset_device_type(self, layer: ILayer) -> None:
        """Take back ``set_device_type``."""
        self._device_types.pop(layer, None)

    def can_run_on_DLA(self, layer: ILayer) -> bool:  # noqa: N802  # TensorRT's spelling
        """False: there is no DLA."""
        return False

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        """Which of NVIDIA's libraries tactics may come from. Kept and shown."""
        self._tactic_sources = int(tactic_sources)
        return True

    def get_tactic_sources(self) -> int:
        """A mask of NVIDIA's libraries."""
        return mask_of_all("TacticSource") if self._tactic_sources is None else self._tactic_sources

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        """Switch a preview feature. Kept and shown: they are about NVIDIA's kernels."""
        self._previews[current("PreviewFeature")[feature.name].name] = bool(enable)

    def get_preview_feature(self, feature: Any) -> bool:
        """Whether a preview feature is on."""
        return self._previews.get(feature.name, False)

    @property
    def plugins_to_serialize(self) -> list[str]:
        """Plugin libraries to carry in the engine: none can be."""
        return list(self._plugins)

    @plugins_to_serialize.setter
    def plugins_to_serialize(self, plugins: list[str]) -> None:
        if plugins:
            self._reporter.error(
                "IBuilderConfig::setPluginsToSerialize", "trine carries no plugin libraries", "UNSUPPORTED_STATE"
            )

    @property
    def algorithm_selector(self) -> Any:
        """None: see the setter."""
        return None

    @algorithm_selector.setter
    def algorithm_selector(self, selector: Any) -> None:
        if selector is not None:
            self._reporter.error(
                "IBuilderConfig::setAlgorithmSelector",
                "trine chooses one tactic for the whole graph, by time; name it with trine.build(tactics=…)",
                "UNSUPPORTED_STATE",
            )

    @property
    def remote_auto_tuning_config(self) -> str:
        """Where to tune remotely: nowhere."""
        return self._remote

    @remote_auto_tuning_config.setter
    def remote_auto_tuning_config(self, config: str) -> None:
        if config:
            self._reporter.error(
                "IBuilderConfig::setRemoteAutoTuningConfig", "trine tunes on this machine only", "UNSUPPORTED_STATE"
            )
