"""What a builder's options do: precision flags, progress monitors, error recorders, profilers, output types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tensorrt_messages import Messages

import trine.compat.tensorrt as trt
from trine.compat.tensorrt.building import lower_precisions


class Monitor(trt.IProgressMonitor):
    """Keeps what it is told; ends the build where ``go_on`` is false."""

    def __init__(self, go_on: bool) -> None:
        trt.IProgressMonitor.__init__(self)
        self.go_on = go_on
        self.told: list[str] = []

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Keep it."""
        self.told.append(f"start {num_steps}")

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Keep it."""
        self.told.append(f"step {step}")
        return self.go_on

    def phase_finish(self, phase_name: str) -> None:
        """Keep it."""
        self.told.append("finish")


class Recorder(trt.IErrorRecorder):
    """Keeps errors."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Any, str]] = []

    def report_error(self, code: Any, desc: str) -> bool:
        """Keep one."""
        self.kept.append((code, desc))
        return True


class Times(trt.IProfiler):
    """Keeps times."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, float] = {}

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Keep one."""
        self.kept[layer_name] = ms


@pytest.fixture
def logger() -> Messages:
    """A logger that remembers."""
    return Messages()


def small(logger: Messages, flags: int = 0) -> tuple[trt.Builder, trt.INetworkDefinition, trt.IBuilderConfig]:
    """y = x + 1 for x of (2, 3)."""
    builder = trt.Builder(logger)
    network = builder.create_network(flags)
    x = network.add_input("x", trt.float32, (2, 3))
    one = network.add_constant((1, 1), np.ones((1, 1), np.float32)).get_output(0)
    y = network.add_elementwise(x, one, trt.ElementWiseOperation.SUM).get_output(0)
    y.name = "y"
    network.mark_output(y)
    return builder, network, builder.create_builder_config()


def test_fp16_allows_a_precision_and_is_never_ignored(logger: Messages) -> None:
    builder, network, config = small(logger)
    network.get_output(0).dtype = trt.float16
    config.set_flag(trt.BuilderFlag.FP16)
    config.progress_monitor = monitor = Monitor(True)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, logger.errors
    assert monitor.told[0].startswith("start")
    assert monitor.told[-1] == "finish"
    if "fp16" not in lower_precisions():
        assert any("does not compute in fp16" in message for message in logger.warnings)
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    assert engine.get_tensor_dtype("y") == trt.float16
    context = engine.create_execution_context()
    context.profiler = times = Times()
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((2, 3), np.float16)
    assert context.execute_v2([x.ctypes.data, y.ctypes.data]), logger.errors
    np.testing.assert_array_equal(y, x + 1)
    assert times.kept  # each layer as the backend names it; a tiny one may take less than its clock's step
    assert all(ms >= 0 for ms in times.kept.values())


def test_a_profiler_is_told_of_layers_when_it_shall_be(logger: Messages) -> None:
    builder, network, config = small(logger)
    engine = trt.Runtime(logger).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    context = engine.create_execution_context()
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((2, 3), np.float32)
    bindings = [x.ctypes.data, y.ctypes.data]
    assert context.execute_v2(bindings)
    assert not context.report_to_profiler()  # no profiler
    context.profiler = times = Times()
    assert not context.report_to_profiler()  # no call was measured
    context.enqueue_emits_profile = False
    assert context.execute_v2(bindings), logger.errors
    np.testing.assert_array_equal(y, x + 1)
    assert times.kept == {}
    assert context.report_to_profiler()
    assert times.kept
    context.profiler = None
    assert context.execute_v2(bindings)
    assert not context.report_to_profiler()


def test_a_monitor_can_end_a_build(logger: Messages) -> None:
    builder, network, config = small(logger)
    config.progress_monitor = monitor = Monitor(False)
    assert builder.build_serialized_network(network, config) is None
    assert monitor.told == ["start 5", "step 0", "finish"]


def test_error_recorders_get_codes(logger: Messages) -> None:
    builder, network, config = small(logger)
    builder.error_recorder = recorder = Recorder()
    config.set_flag(trt.BuilderFlag.FP8)
    assert builder.build_serialized_network(network, config) is None
    code, text = recorder.kept[0]
    assert code == trt.ErrorCodeTRT.UNSUPPORTED_STATE
    assert "FP8" in text


def test_strongly_typed_networks_take_no_precision_flag(logger: Messages) -> None:
    flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    builder, network, config = small(logger, flag)
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    config.set_flag(trt.BuilderFlag.BF16)
    assert builder.build_serialized_network(network, config) is None
    assert "strongly typed" in logger.errors[-1]


def test_switches_without_effect_say_why(logger: Messages) -> None:
    _, _, config = small(logger)
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    config.default_device_type = trt.DeviceType.DLA
    assert [("DLA" in message or "no effect" in message) for message in logger.warnings] == [True, True]
    assert config.flags >> int(trt.BuilderFlag.GPU_FALLBACK) & 1
    config.clear_flag(trt.BuilderFlag.GPU_FALLBACK)
    assert not config.get_flag(trt.BuilderFlag.GPU_FALLBACK)
    with pytest.raises(TypeError, match="BuilderFlag"):
        config.set_flag(trt.DataType.HALF)
