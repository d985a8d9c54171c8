"""IExecutionContext: runs an engine on memory that the program gives by address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt.context_options import ContextOptions
from trine.compat.tensorrt.context_shapes import ContextShapes
from trine.compat.tensorrt.eras import retired
from trine.compat.tensorrt.execution import collect, deliver, report_layer_times
from trine.compat.tensorrt.logger import Reporter
from trine.errors import InputError, TrineError

if TYPE_CHECKING:
    from trine.compat.tensorrt.engine import ICudaEngine
    from trine.runtime.context import ExecutionContext
    from trine.runtime.layer_times import LayerTimes

__all__ = ["IExecutionContext"]


class IExecutionContext(ContextShapes, ContextOptions):
    """Runs an engine. Made by ``ICudaEngine.create_execution_context``; keeps its engine alive.

    Addresses are of the host's memory. A call returns when the answers are there, whatever stream it was given: on the
    CPU, what a program waits for has then already happened. What cannot be run is logged, and False is returned.
    """

    def __init__(self, engine: ICudaEngine, context: ExecutionContext) -> None:
        self._cuda_engine = engine
        self._reporter = Reporter(engine._reporter.logger)
        self._context = context
        self._made_by = engine._engine  # the refitter may put another in its place
        self._tensors = engine._tensors
        self._set_up_shapes(engine)
        self._set_up_options()
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._timed: LayerTimes | None = None
        self._layer_times: list[tuple[str, float]] = []

    @property
    def engine(self) -> ICudaEngine:
        """The engine."""
        return self._cuda_engine

    # Addresses.

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Where an input's or output's data are. False for a name that there is not."""
        if self._find("setTensorAddress", name) is None:
            return False
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        """What ``set_tensor_address`` said; 0 before."""
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        """What gives memory for an output, once its size is known; None to take it back."""
        if self._find("setOutputAllocator", name) is None or name in self._input_names:
            return False
        if output_allocator is None:
            self._allocators.pop(name, None)
        else:
            self._allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        """What ``set_output_allocator`` said, or None."""
        return self._allocators.get(name)

    # Running.

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Run on the addresses that were set."""
        return self._run("enqueueV3", self._shapes_for_call(), dict(self._addresses), int(stream_handle))

    def execute_v2(self, bindings: Any) -> bool:
        """Run on these addresses, one for each input and output."""
        return self._run_bindings("executeV2", bindings, None, 0)

    @retired("execute_async_v3")
    def execute_async_v2(self, bindings: Any, stream_handle: int, input_consumed: Any = None) -> bool:
        """Run on these addresses, one for each input and output."""
        return self._run_bindings("enqueueV2", bindings, None, int(stream_handle))

    @retired("execute_v2")
    def execute(self, batch_size: int = 1, bindings: Any = ()) -> bool:
        """Run ``batch_size`` rows on these addresses."""
        return self._run_bindings("execute", bindings, int(batch_size), 0)

    @retired("execute_async_v3")
    def execute_async(
        self, batch_size: int = 1, bindings: Any = (), stream_handle: int = 0, input_consumed: Any = None
    ) -> bool:
        """Run ``batch_size`` rows on these addresses."""
        return self._run_bindings("enqueue", bindings, int(batch_size), int(stream_handle))

    def _run_bindings(self, method: str, bindings: Any, batch_size: int | None, stream: int) -> bool:
        addresses = [int(address) for address in bindings]
        names = self._cuda_engine._names
        if len(addresses) % len(names) or not addresses:
            self._reporter.error(
                f"IExecutionContext::{method}",
                f"expected {len(names)} bindings, one for each of {names}; got {len(addresses)}",
            )
            return False
        first = self._profile * len(names) if len(addresses) > len(names) else 0
        chosen = dict(zip(names, addresses[first : first + len(names)], strict=True))
        return self._run(method, self._shapes_for_call(batch_size), chosen, stream)

    def _run(self, method: str, shapes: Any, addresses: dict[str, int], stream: int) -> bool:
        where = f"IExecutionContext::{method}"
        if self._made_by is not self._cuda_engine._engine:
            self._made_by = self._cuda_engine._engine
            self._timed = None
            self._context = self._made_by.create_execution_context()
        if isinstance(shapes, str):
            self._reporter.error(where, shapes)
            return False
        try:
            inputs, out = collect(self, shapes, addresses)
            if self._profiler is None:
                self._layer_times = []
                answers = self._context.execute(inputs, out)
            else:
                answers = self._execute_timed(inputs, out)
            deliver(self, answers, out, addresses, stream)
        except (TrineError, RuntimeError) as err:  # RuntimeError: the backends' own
            self._reporter.failed(where, err if isinstance(err, TrineError) else InputError(str(err)))
            return False
        self._last_shapes = {name: tuple(array.shape) for name, array in answers.items()}
        if self._profiler is not None and self.enqueue_emits_profile:
            report_layer_times(self)
        return True

    def _execute_timed(self, inputs: dict[str, Any], out: dict[str, Any]) -> dict[str, Any]:
        """Run the plan that was compiled to be measured: the first call with a profiler compiles it."""
        from trine.runtime.layer_times import LayerTimes

        if self._timed is None:
            self._timed = LayerTimes(self._made_by)
        answers = self._timed.execute(inputs, out)
        self._layer_times = self._timed.last
        return answers

    def report_to_profiler(self) -> bool:
        """Tell the profiler the times of the last call. False where no call was made with a profiler."""
        if self._profiler is None or not self._layer_times:
            self._reporter.error(
                "IExecutionContext::reportToProfiler", "nothing was measured: set a profiler, and call then"
            )
            return False
        report_layer_times(self)
        return True

    def __enter__(self) -> IExecutionContext:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing: the context goes with the last reference."""
