"""Bindings: how TensorRT 8 and older called inputs and outputs, by number. Inputs come first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt.dims import Dims
from trine.compat.tensorrt.eras import Checked, retired, warn_retired

if TYPE_CHECKING:
    from collections.abc import Callable

    from trine.compat.tensorrt.enums import DataType
    from trine.compat.tensorrt.logger import Reporter
    from trine.compat.tensorrt.plan_info import PlanInfo

__all__ = ["EngineBindings"]


class EngineBindings(Checked):
    """See ``ICudaEngine``, which has these."""

    _names: list[str]
    _inputs: frozenset[str]
    _info: PlanInfo
    _reporter: Reporter
    get_tensor_shape: Callable[[str], Dims]
    get_tensor_dtype: Callable[[str], DataType]
    get_tensor_location: Callable[[str], Any]
    get_tensor_format: Callable[[str], Any]
    get_tensor_format_desc: Callable[[str], str]
    get_tensor_profile_shape: Callable[[str, int], list[Dims]]

    def _binding(self, where: str, binding: int | str) -> str | None:
        """A binding's name, from its number or its name; for others an error is logged and None given."""
        if isinstance(binding, str) and binding in self._names:
            return binding
        profiles = max(len(self._info.profiles), 1)
        if isinstance(binding, int) and 0 <= binding < len(self._names) * profiles:
            return self._names[binding % len(self._names)]  # every profile has bindings of its own
        self._reporter.error(f"ICudaEngine::{where}", f"binding {binding!r}: there are {len(self._names)}")
        return None

    @property
    def num_bindings(self) -> int:
        """How many inputs and outputs, once for each optimization profile."""
        warn_retired("ICudaEngine.num_bindings", "num_io_tensors")
        return len(self._names) * max(len(self._info.profiles), 1)

    def __len__(self) -> int:
        return len(self._names) * max(len(self._info.profiles), 1)

    def __bool__(self) -> bool:
        return True

    @retired("get_tensor_name")
    def get_binding_name(self, index: int) -> str | None:
        """A binding's name."""
        return self._binding("getBindingName", index)

    @retired("get_tensor_name")
    def get_binding_index(self, name: str) -> int:
        """A name's number; -1 where there is none."""
        return self._names.index(name) if name in self._names else -1

    @retired("get_tensor_mode")
    def binding_is_input(self, index: int | str) -> bool:
        """Whether it is an input."""
        return self._binding("bindingIsInput", index) in self._inputs

    @retired("get_tensor_shape")
    def get_binding_shape(self, index: int | str) -> Dims:
        """Its dimensions."""
        name = self._binding("getBindingDimensions", index)
        return Dims() if name is None else self.get_tensor_shape(name)

    @retired("get_tensor_dtype")
    def get_binding_dtype(self, index: int | str) -> DataType:
        """Its element type."""
        return self.get_tensor_dtype(self._binding("getBindingDataType", index) or "")

    @retired("get_tensor_location")
    def get_location(self, index: int | str) -> Any:
        """Where its memory is."""
        return self.get_tensor_location(self._binding("getLocation", index) or "")

    @retired("get_tensor_format")
    def get_binding_format(self, index: int) -> Any:
        """Its layout."""
        return self.get_tensor_format(self._binding("getBindingFormat", index) or "")

    @retired("get_tensor_format_desc")
    def get_binding_format_desc(self, index: int) -> str:
        """Its layout in words."""
        return self.get_tensor_format_desc(self._binding("getBindingFormatDesc", index) or "")

    @retired("get_tensor_bytes_per_component")
    def get_binding_bytes_per_component(self, index: int) -> int:
        """-1: layouts are not vectorised."""
        return -1

    @retired("get_tensor_components_per_element")
    def get_binding_components_per_element(self, index: int) -> int:
        """-1: layouts are not vectorised."""
        return -1

    @retired("get_tensor_vectorized_dim")
    def get_binding_vectorized_dim(self, index: int) -> int:
        """-1: layouts are not vectorised."""
        return -1

    @retired("is_shape_inference_io")
    def is_shape_binding(self, binding: int) -> bool:
        """False: no shape depends on an input's values before it is there."""
        return False

    @retired("get_tensor_location")
    def is_execution_binding(self, binding: int) -> bool:
        """True: its values are used when the engine runs."""
        return True

    @retired("get_tensor_profile_shape")
    def get_profile_shape(self, profile_index: int, binding: int | str) -> list[Dims]:
        """An input's smallest, usual and largest shape."""
        return self.get_tensor_profile_shape(self._binding("getProfileDimensions", binding) or "", profile_index)

    @retired("get_tensor_profile_shape")
    def get_profile_shape_input(self, profile_index: int, binding: int | str) -> list[list[int]]:
        """An empty list: there are no shape inputs."""
        return []

    @property
    def max_batch_size(self) -> int:
        """The largest batch of an engine whose shapes leave it out; 1 for others."""
        warn_retired("ICudaEngine.max_batch_size", "an optimization profile's shapes")
        return self._info.max_batch_size
