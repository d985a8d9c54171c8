"""ICudaEngine: an engine, with what TensorRT says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt import options
from trine.compat.tensorrt.bindings import EngineBindings
from trine.compat.tensorrt.dims import Dims
from trine.compat.tensorrt.engine_devices import EngineDevices
from trine.compat.tensorrt.enums import DataType, current
from trine.compat.tensorrt.foundation import IHostMemory, from_trine
from trine.compat.tensorrt.logger import Reporter
from trine.compat.tensorrt.plan_info import PlanInfo
from trine.errors import TrineError

if TYPE_CHECKING:
    from trine.compat.tensorrt.context import IExecutionContext
    from trine.compat.tensorrt.inspector import EngineInspector
    from trine.engine.engine import Engine
    from trine.engine.manifest import TensorInfo

__all__ = ["ICudaEngine"]


class ICudaEngine(EngineBindings, EngineDevices):
    """An engine. Made by ``Runtime.deserialize_cuda_engine``.

    Memory is the host's: every address that its contexts take is one there.
    """

    def __init__(self, engine: Engine, logger: Any, recorder: Any = None) -> None:
        self._reporter = Reporter(logger)
        self._reporter.recorder = recorder
        self._engine = engine
        self._info = PlanInfo.of(engine)
        self._tensors: dict[str, TensorInfo] = {info.name: info for info in (*engine.inputs, *engine.outputs)}
        self._inputs = frozenset(info.name for info in engine.inputs)
        self._names = list(self._tensors)

    @property
    def _hidden_axes(self) -> int:
        return int(self._info.implicit)

    def _find(self, where: str, name: Any) -> TensorInfo | None:
        """The tensor called ``name``; for others, an error is logged and None given."""
        info = self._tensors.get(name) if isinstance(name, str) else None
        if info is None:
            self._reporter.error(f"ICudaEngine::{where}", f"{name!r} is no input or output; there are {self._names}")
        return info

    # What there is.

    @property
    def name(self) -> str:
        """The network's name."""
        return self._engine.manifest.name

    @property
    def num_io_tensors(self) -> int:
        """How many inputs and outputs."""
        return len(self._names)

    def get_tensor_name(self, index: int) -> str:
        """The name of an input or output; inputs come first. Raises IndexError where there is none."""
        if not 0 <= index < len(self._names):
            raise IndexError(f"tensor {index}: the engine has {len(self._names)} inputs and outputs")
        return self._names[index]

    def __getitem__(self, index: int | str) -> Any:
        if isinstance(index, str):
            return self._names.index(index) if index in self._names else -1
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        """INPUT or OUTPUT; NONE for another name."""
        info = self._find("getTensorIOMode", name)
        mode = "NONE" if info is None else "INPUT" if name in self._inputs else "OUTPUT"
        return current("TensorIOMode")[mode]

    def get_tensor_shape(self, name: str) -> Dims:
        """Its dimensions, -1 for each that a call gives."""
        info = self._find("getTensorShape", name)
        return Dims() if info is None else self._dims(info)

    def _dims(self, info: TensorInfo) -> Dims:
        return Dims([dim if isinstance(dim, int) else -1 for dim in info.shape[self._hidden_axes :]])

    def get_tensor_dtype(self, name: str) -> DataType:
        """Its element type; FLOAT for another name."""
        info = self._find("getTensorDataType", name)
        return DataType.FLOAT if info is None else from_trine(info.dtype)

    def get_tensor_location(self, name: str) -> Any:
        """HOST: the engine runs on the CPU, and its inputs and outputs are in the host's memory."""
        self._find("getTensorLocation", name)
        return current("TensorLocation").HOST

    def is_shape_inference_io(self, name: str) -> bool:
        """False: no shape depends on an input's values before it is there."""
        self._find("isShapeInferenceIO", name)
        return False

    def is_debug_tensor(self, name: str) -> bool:
        """False: there are none."""
        return False

    def get_aliased_input_tensor(self, name: str) -> str | None:
        """None: no output shares an input's memory."""
        return None

    # Layout: always one element after the other.

    def get_tensor_bytes_per_component(self, name: str, profile_index: int = 0) -> int:
        """-1: layouts are not vectorised."""
        return -1

    def get_tensor_components_per_element(self, name: str, profile_index: int = 0) -> int:
        """-1: layouts are not vectorised."""
        return -1

    def get_tensor_vectorized_dim(self, name: str, profile_index: int = 0) -> int:
        """-1: layouts are not vectorised."""
        return -1

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        """LINEAR."""
        self._find("getTensorFormat", name)
        return current("TensorFormat").LINEAR

    def get_tensor_format_desc(self, name: str, profile_index: int = 0) -> str:
        """LINEAR in words."""
        info = self._find("getTensorFormatDesc", name)
        return "" if info is None else f"Row-major linear {from_trine(info.dtype).name} format (kLINEAR)"

    # Profiles.

    @property
    def num_optimization_profiles(self) -> int:
        """How many profiles it was built with, at least 1."""
        return len(self._info.profiles)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        """An input's smallest, usual and largest shape; an empty list for anything else."""
        if not 0 <= profile_index < self.num_optimization_profiles or name not in self._inputs:
            self._reporter.error(
                "ICudaEngine::getProfileShape",
                f"{name!r} in profile {profile_index}: there are {self.num_optimization_profiles} profiles, of the "
                f"inputs {sorted(self._inputs)}",
            )
            return []
        found = self._info.profiles[profile_index].get(name) or self._engine.profile.ranges[name]
        hidden = self._hidden_axes
        return [Dims(found.min[hidden:]), Dims(found.opt[hidden:]), Dims(found.max[hidden:])]

    def get_tensor_profile_values(self, profile_index: int, name: str) -> list[list[int]]:
        """An empty list: there are no shape inputs."""
        return []

    # What it was built with.

    @property
    def has_implicit_batch_dimension(self) -> bool:
        """Whether shapes leave the batch out."""
        return self._info.implicit

    @property
    def num_layers(self) -> int:
        """How many nodes its optimised graph has."""
        return len(self._inspection()["layers"])

    def _inspection(self) -> Any:
        from trine.engine.inspector import inspect_engine

        found = self.__dict__.get("_inspected")
        if found is None:
            found = inspect_engine(self._engine)
            self._inspected = found
        return found

    @property
    def refittable(self) -> bool:
        """Whether it was built with REFIT."""
        return self._info.refittable

    @property
    def engine_capability(self) -> Any:
        """STANDARD."""
        return current("EngineCapability").STANDARD

    @property
    def profiling_verbosity(self) -> Any:
        """What the config said."""
        return current("ProfilingVerbosity")[self._info.verbosity]

    def get_engine_stat(self, stat: Any) -> int:
        """Bytes of weights; stripped ones, none."""
        total = sum(len(weight.data) for weight in self._engine.graph.weights)
        return total if stat.name == "TOTAL_WEIGHTS_SIZE" else 0

    # What it gives.

    def serialize(self) -> IHostMemory | None:
        """The engine as bytes, for ``Runtime.deserialize_cuda_engine`` or a file."""
        try:
            return IHostMemory(self._engine.serialize())
        except TrineError as err:
            self._reporter.failed("ICudaEngine::serialize", err)
            return None

    def create_serialization_config(self) -> Any:
        """Options for ``serialize_with_config``."""
        from trine.compat.tensorrt.runtime_options import ISerializationConfig

        return ISerializationConfig()

    def serialize_with_config(self, config: Any) -> IHostMemory | None:
        """The engine as bytes; None where the config asks to leave the weights out."""
        if config.get_flag(current("SerializationFlag").EXCLUDE_WEIGHTS):
            self._reporter.error(
                "ICudaEngine::serializeWithConfig",
                "EXCLUDE_WEIGHTS: trine's engines hold their weights; clear the flag",
                "UNSUPPORTED_STATE",
            )
            return None
        return self.serialize()

    def create_runtime_config(self) -> Any:
        """Options for ``create_execution_context``."""
        from trine.compat.tensorrt.runtime_options import IRuntimeConfig

        return IRuntimeConfig()

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> IExecutionContext | None:
        """A context to run it with. How its memory is allocated is the backend's affair."""
        from trine.compat.tensorrt.context import IExecutionContext

        try:
            return IExecutionContext(self, self._engine.create_execution_context())
        except TrineError as err:
            self._reporter.failed("ICudaEngine::createExecutionContext", err)
            return None

    def create_execution_context_without_device_memory(self) -> IExecutionContext | None:
        """The same as ``create_execution_context``: no device memory is needed."""
        return self.create_execution_context()

    def _rebuild(self, source: bytes, threads: int) -> None:
        """Become the engine of another model of the same inputs and outputs. Raises TrineError where that fails."""
        import trine
        from trine.compat.tensorrt.refitter import SOURCE_PLAN

        old = self._engine
        ranges = {name: found for name, found in old.profile.ranges.items() if found.min != found.max}
        made = trine.build(source, shapes=ranges, precision=old.manifest.precision, threads=threads or None)
        made.plans[SOURCE_PLAN] = source
        self._info.put(made)
        self._engine = made
        self.__dict__.pop("_inspected", None)

    def create_engine_inspector(self) -> EngineInspector:
        """What tells about layers."""
        from trine.compat.tensorrt.inspector import EngineInspector

        return EngineInspector(self)

    error_recorder = options.error_recorder

    def __enter__(self) -> ICudaEngine:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: contexts keep their engine alive."""
