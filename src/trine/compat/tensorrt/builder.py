"""Builder: makes networks, configs and profiles, and builds engines from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import eras, options
from trine.compat.tensorrt.config import IBuilderConfig
from trine.compat.tensorrt.enums import current, names_in
from trine.compat.tensorrt.eras import Checked, retired, warn_retired
from trine.compat.tensorrt.foundation import IHostMemory
from trine.compat.tensorrt.logger import Reporter
from trine.compat.tensorrt.profile import IOptimizationProfile
from trine.errors import TrineError

if TYPE_CHECKING:
    from trine.compat.tensorrt.engine import ICudaEngine
    from trine.compat.tensorrt.network import INetworkDefinition

__all__ = ["Builder"]


def _moved(name: str, instead: str, default: Any) -> Any:
    """An option of TensorRT 7's builder, which is the config's since 8: it acts on ``build_cuda_engine``."""

    def get(self: Any) -> Any:
        warn_retired(f"Builder.{name}", instead)
        return self._old_options.get(name, default)

    def put(self: Any, value: Any) -> None:
        warn_retired(f"Builder.{name}", instead)
        self._old_options[name] = value

    return property(get, put, doc=f"What is called {instead} now.")


class Builder(Checked):
    """Makes networks, and engines from networks. Its logger is told what goes wrong; the call then gives None."""

    def __init__(self, logger: Any) -> None:
        self._reporter = Reporter(logger)
        self._max_batch_size = 1
        self._max_threads = 0
        self._old_options: dict[str, Any] = {}

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        """An empty network. ``flags`` is a mask of NetworkDefinitionCreationFlags.

        Up to TensorRT 9 no flag means that shapes leave the batch out; since 10 they always have it. Where no era is
        chosen they have it too, unless the network begins with a retired layer on a picture without a batch.
        """
        from trine.compat.tensorrt.network import INetworkDefinition

        names = names_in("NetworkDefinitionCreationFlag", flags)
        implicit = eras.before(10) and "EXPLICIT_BATCH" not in names
        return INetworkDefinition(self, names, int(flags), implicit)

    def create_builder_config(self) -> IBuilderConfig:
        """A config with every option as TensorRT has it at first."""
        return IBuilderConfig(self._reporter)

    def create_optimization_profile(self) -> IOptimizationProfile:
        """An empty profile, to be filled and added to a config."""
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        """The engine as bytes; None where it could not be built, and the log says why."""
        engine = self._build(network, config)
        if engine is None:
            return None
        try:
            return IHostMemory(engine.serialize())
        finally:
            engine.close()

    def build_serialized_network_to_stream(self, network: Any, config: IBuilderConfig, writer: Any) -> bool:
        """The engine's bytes, to ``writer.write``. False where it could not be built or written."""
        plan = self.build_serialized_network(network, config)
        return plan is not None and int(writer.write(bytes(plan))) == len(plan)

    def build_engine_with_config(self, network: INetworkDefinition, config: IBuilderConfig) -> ICudaEngine | None:
        """The engine; None where it could not be built."""
        from trine.compat.tensorrt.engine import ICudaEngine

        engine = self._build(network, config)
        return None if engine is None else ICudaEngine(engine, self._reporter.logger)

    @retired("build_serialized_network and Runtime.deserialize_cuda_engine")
    def build_engine(self, network: INetworkDefinition, config: IBuilderConfig) -> ICudaEngine | None:
        """The engine; None where it could not be built."""
        return self.build_engine_with_config(network, config)

    @retired("build_serialized_network and Runtime.deserialize_cuda_engine")
    def build_cuda_engine(self, network: INetworkDefinition) -> ICudaEngine | None:
        """The engine, by the builder's own options; None where it could not be built."""
        config = self.create_builder_config()
        old_options = self._old_options
        config.set_memory_pool_limit(
            current("MemoryPoolType").WORKSPACE, int(old_options.get("max_workspace_size", 1 << 20))
        )
        config.int8_calibrator = old_options.get("int8_calibrator")
        for option, flag in (("fp16_mode", "FP16"), ("int8_mode", "INT8"), ("refittable", "REFIT")):
            if old_options.get(option):
                config._flags.add(flag)
        return self.build_engine_with_config(network, config)

    def _build(self, network: Any, config: Any) -> Any:
        from trine.compat.tensorrt.building import build
        from trine.compat.tensorrt.network import INetworkDefinition

        if not isinstance(network, INetworkDefinition) or not isinstance(config, IBuilderConfig):
            raise TypeError(
                "expected a tensorrt.INetworkDefinition and a tensorrt.IBuilderConfig, got "
                f"{type(network).__name__} and {type(config).__name__}"
            )
        try:
            return build(network, config, self._reporter, self._max_batch_size, self._max_threads)
        except TrineError as err:
            self._reporter.failed("IBuilder::buildSerializedNetwork", err)
            return None

    def is_network_supported(self, network: INetworkDefinition, config: IBuilderConfig) -> bool:
        """Whether it could be built, as far as that is known without building it."""
        from trine.compat.tensorrt.building import check

        try:
            check(network, config, self._max_batch_size)
        except TrineError as err:
            self._reporter.failed("IBuilder::isNetworkSupported", err)
            return False
        return True

    def reset(self) -> None:
        """Every option as it was at first."""
        self._max_batch_size = 1
        self._max_threads = 0
        self._old_options.clear()

    logger = options.logger
    error_recorder = options.error_recorder
    gpu_allocator: Any = options.kept("gpu_allocator", None, "Kept, never called: there is no device memory.")
    max_threads = options.threads(
        "IBuilder", "How many threads the engine uses; 0 for as many as the process may run on."
    )

    @property
    def max_batch_size(self) -> int:
        """The largest batch of a network without explicit batch dimensions."""
        warn_retired("Builder.max_batch_size", "EXPLICIT_BATCH and an optimization profile")
        return self._max_batch_size

    @max_batch_size.setter
    def max_batch_size(self, size: int) -> None:
        warn_retired("Builder.max_batch_size", "EXPLICIT_BATCH and an optimization profile")
        if int(size) < 1:
            self._reporter.error("IBuilder::setMaxBatchSize", f"expected at least 1, got {size}")
            return
        self._max_batch_size = int(size)

    max_workspace_size = _moved(
        "max_workspace_size", "IBuilderConfig.set_memory_pool_limit(MemoryPoolType.WORKSPACE, nbytes)", 1 << 20
    )
    fp16_mode = _moved("fp16_mode", "IBuilderConfig.set_flag(BuilderFlag.FP16)", False)
    int8_mode = _moved("int8_mode", "IBuilderConfig.set_flag(BuilderFlag.INT8)", False)
    int8_calibrator = _moved("int8_calibrator", "IBuilderConfig.int8_calibrator", None)
    strict_type_constraints = _moved("strict_type_constraints", "strongly typed networks", False)
    refittable = _moved("refittable", "IBuilderConfig.set_flag(BuilderFlag.REFIT)", False)
    debug_sync = _moved("debug_sync", "IBuilderConfig.set_flag(BuilderFlag.DEBUG)", False)
    average_find_iterations = _moved("average_find_iterations", "IBuilderConfig.avg_timing_iterations", 1)
    min_find_iterations = _moved("min_find_iterations", "IBuilderConfig.avg_timing_iterations", 1)

    @property
    def platform_has_fast_fp16(self) -> bool:
        """Whether this CPU computes in fp16 or bf16."""
        from trine.compat.tensorrt.building import lower_precisions

        return bool(lower_precisions())

    @property
    def platform_has_fast_int8(self) -> bool:
        """Whether this CPU has instructions for products of int8."""
        from trine.runtime.cpu.features import cpu_flags

        return not cpu_flags().isdisjoint(("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"))

    @property
    def platform_has_tf32(self) -> bool:
        """False: a CPU computes fp32 in fp32."""
        return False

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802  # TensorRT's spelling
        """0: there is no DLA."""
        return 0

    @property
    def max_DLA_batch_size(self) -> int:  # noqa: N802  # TensorRT's spelling
        """0: there is no DLA."""
        return 0

    def get_plugin_registry(self) -> Any:
        """The registry, in which there are no plugins."""
        from trine.compat.tensorrt.plugins import get_plugin_registry

        return get_plugin_registry()

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the builder goes with the last reference."""
