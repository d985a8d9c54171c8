"""The shapes of a context's inputs, and of its outputs that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt.dims import Dims
from trine.compat.tensorrt.eras import Checked, retired
from trine.compat.tensorrt.host_memory import nbytes_of
from trine.compat.tensorrt.output_shapes import output_shapes

if TYPE_CHECKING:
    from trine.compat.tensorrt.engine import ICudaEngine
    from trine.compat.tensorrt.logger import Reporter
    from trine.engine.manifest import TensorInfo
    from trine.runtime.context import ExecutionContext

__all__ = ["ContextShapes"]

Shape = tuple[int, ...]


class ContextShapes(Checked):
    """See ``IExecutionContext``, which has these. Shapes inside have the batch, implicit or not."""

    _cuda_engine: ICudaEngine
    _reporter: Reporter
    _context: ExecutionContext
    _tensors: Mapping[str, TensorInfo]

    def _set_up_shapes(self, engine: ICudaEngine) -> None:
        self._input_names = [info.name for info in engine._engine.inputs]
        self._given: dict[str, Shape] = {}
        self._profile = 0
        self._outputs_for: tuple[tuple[Shape, ...], dict[str, Shape]] | None = None
        self._last_shapes: dict[str, Shape] | None = None

    def _find(self, where: str, name: Any) -> TensorInfo | None:
        info = self._tensors.get(name) if isinstance(name, str) else None
        if info is None:
            self._reporter.error(
                f"IExecutionContext::{where}", f"{name!r} is no input or output; there are {list(self._tensors)}"
            )
        return info

    # Inputs.

    def set_input_shape(self, name: str, shape: Any) -> bool:
        """Say an input's shape for the next calls. False where it is outside the active profile."""
        where = "IExecutionContext::setInputShape"
        info = self._find("setInputShape", name)
        if info is None or name not in self._input_names:
            if info is not None:
                self._reporter.error(where, f"{name!r} is an output; only inputs' shapes can be set")
            return False
        dims = tuple(int(dim) for dim in shape)
        hidden = self._cuda_engine._hidden_axes
        wanted = info.shape[hidden:]
        if len(dims) != len(wanted) or any(
            isinstance(want, int) and want != dim for want, dim in zip(wanted, dims, strict=True)
        ):
            self._reporter.error(where, f"input {name!r}: expected {self._shown(info)}, got {dims}")
            return False
        allowed = self._cuda_engine._info.profiles[self._profile].get(name)
        if not hidden and allowed is not None and not allowed.admits(dims):
            self._reporter.error(
                where,
                f"input {name!r}: {dims} is outside optimization profile {self._profile}, which goes from "
                f"{allowed.min} to {allowed.max}",
            )
            return False
        if not hidden:
            self._given[name] = dims
        return True

    def _shown(self, info: TensorInfo) -> Dims:
        return self._cuda_engine._dims(info)

    def _shape_of_input(self, name: str, batch: int | None = None) -> Shape | None:
        """An input's whole shape; None where a dynamic one was not set."""
        info = self._tensors[name]
        if name in self._given:
            return self._given[name]
        if self._cuda_engine._info.implicit and isinstance(info.shape[0], str):
            info_shape: tuple[int | str, ...] = (batch or 1, *info.shape[1:])
        else:
            info_shape = info.shape
        fixed = tuple(dim for dim in info_shape if isinstance(dim, int))
        return fixed if len(fixed) == len(info.shape) else None

    def _shapes_for_call(self, batch_size: int | None = None) -> dict[str, Shape] | str:
        """Every input's shape, or what is wrong, in words."""
        info = self._cuda_engine._info
        if batch_size is not None and info.implicit and not 1 <= batch_size <= info.max_batch_size:
            return f"batch size {batch_size}: the engine was built for 1 to {info.max_batch_size}"
        shapes = {}
        for name in self._input_names:
            shape = self._shape_of_input(name, batch_size)
            if shape is None:
                return (
                    f"input {name!r} is {self._shown(self._tensors[name])}: its shape is not set; call "
                    f"context.set_input_shape({name!r}, shape)"
                )
            if batch_size is not None and info.implicit and shape[0] != batch_size:
                return f"batch size {batch_size}: the model that was parsed has a batch of {shape[0]} in it"
            shapes[name] = shape
        return shapes

    @property
    def all_binding_shapes_specified(self) -> bool:
        """Whether every input's shape is known."""
        return not self.infer_shapes()

    @property
    def all_shape_inputs_specified(self) -> bool:
        """True: there are no shape inputs."""
        return True

    def infer_shapes(self) -> list[str]:
        """The names of inputs whose shapes are still to be set; none when all are known."""
        return [name for name in self._input_names if self._shape_of_input(name) is None]

    # Outputs.

    def get_tensor_shape(self, name: str) -> Dims:
        """An input's shape as it was set, or an output's that follows; -1 for what is not known yet."""
        info = self._find("getTensorShape", name)
        if info is None:
            return Dims()
        hidden = self._cuda_engine._hidden_axes
        if name in self._input_names:
            shape = self._shape_of_input(name)
        else:
            shape = None if self.infer_shapes() else self._output_shapes()[name]
        return self._shown(info) if shape is None else Dims(shape[hidden:])

    def _output_shapes(self, shapes: dict[str, Shape] | None = None) -> dict[str, Shape]:
        """Every output's shape, for the inputs' shapes as they are; -1 for what depends on values."""
        if shapes is None:
            found = self._shapes_for_call()
            assert isinstance(found, dict)
            shapes = found
        key = tuple(shapes.values())
        if self._outputs_for is None or self._outputs_for[0] != key:
            engine = self._cuda_engine._engine
            made = output_shapes(engine.inputs, engine.outputs, shapes, self._context.execute)
            self._outputs_for = (key, made)
        return self._outputs_for[1]

    def get_tensor_strides(self, name: str) -> Dims:
        """How many elements lie between neighbours, for each dimension."""
        shape = self.get_tensor_shape(name)
        strides, step = [], 1
        for dim in reversed(shape):
            strides.append(step)
            step = -1 if -1 in (step, dim) else step * dim
        return Dims(list(reversed(strides)))

    def get_max_output_size(self, name: str) -> int:
        """Bytes that an output takes at most in the active profile; -1 where that is not known."""
        info = self._find("getMaxOutputSize", name)
        if info is None or name in self._input_names:
            return -1
        engine = self._cuda_engine._engine
        shape = output_shapes(engine.inputs, engine.outputs, engine.profile.shapes("max"), self._context.execute)[name]
        return -1 if -1 in shape else nbytes_of(info.dtype, shape)

    # Profiles.

    @property
    def active_optimization_profile(self) -> int:
        """The number of the profile in use."""
        return self._profile

    @active_optimization_profile.setter
    def active_optimization_profile(self, index: int) -> None:
        self.set_optimization_profile_async(index, 0)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Use another profile; dynamic inputs' shapes are to be set again. False where there is none."""
        count = self._cuda_engine.num_optimization_profiles
        if not 0 <= int(profile_index) < count:
            self._reporter.error(
                "IExecutionContext::setOptimizationProfileAsync", f"profile {profile_index}: the engine has {count}"
            )
            return False
        if int(profile_index) != self._profile:
            self._given.clear()
        self._profile = int(profile_index)
        return True

    # TensorRT 8 and older, by number.

    @retired("set_input_shape")
    def set_binding_shape(self, binding: int, shape: Any) -> bool:
        """Say an input's shape for the next calls."""
        name = self._cuda_engine._binding("setBindingDimensions", binding)
        return name is not None and self.set_input_shape(name, shape)

    @retired("get_tensor_shape")
    def get_binding_shape(self, binding: int) -> Dims:
        """An input's shape as it was set, or an output's that follows."""
        name = self._cuda_engine._binding("getBindingDimensions", binding)
        return Dims() if name is None else self.get_tensor_shape(name)

    @retired("get_tensor_strides")
    def get_strides(self, binding: int) -> Dims:
        """How many elements lie between neighbours, for each dimension."""
        name = self._cuda_engine._binding("getStrides", binding)
        return Dims() if name is None else self.get_tensor_strides(name)

    @retired("set_tensor_address")
    def set_shape_input(self, binding: int, shape: Any) -> bool:
        """False: there are no shape inputs."""
        self._reporter.error("IExecutionContext::setInputShapeBinding", "the engine has no shape inputs")
        return False

    @retired("get_tensor_address")
    def get_shape(self, binding: int) -> list[int]:
        """An empty list: there are no shape inputs."""
        return []
