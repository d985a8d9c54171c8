"""From a portable graph to a TensorRTPlan: parse, set the profile, build. No GPU is needed by TensorRT for RTX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trine.backends.tensorrt.layers import layers_from_log
from trine.backends.tensorrt.precision import cast_model
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import BuildError, ConfigError, UnsupportedError
from trine.profile import OptimizationProfile
from trine.runtime.tensorrt.messages import Messages, flat
from trine.runtime.tensorrt.packages import TensorRT
from trine.runtime.tensorrt.plan import TensorRTPlan
from trine.runtime.tensorrt.tensor_types import differing_tensors

__all__ = ["build_tensorrt_plan", "parser_verdict"]


def build_tensorrt_plan(
    package: TensorRT,
    graph: PortableGraph,
    tensors: Sequence[TensorInfo],
    profile: OptimizationProfile,
    precision: str,
    target: str | None = None,
    on_stage: Callable[[str], None] = lambda text: None,
) -> TensorRTPlan:
    """tensors: the engine's inputs and outputs. precision: "fp32", "tf32" (fp32 whose products may be rounded to tf32),
    "fp16" or "bf16".

    target: "sm_86" and its like, for packages that build for a GPU that is not here; None: what the package builds for
    by itself.

    Raises UnsupportedError with the nodes that TensorRT's parser refuses and its reasons, or the tensors whose types it
    does not have; BuildError with TensorRT's messages when its builder cannot be had (``tensorrt`` itself needs a GPU)
    or fails; ConfigError for a target that the package does not build for.
    """
    trt = package.module
    messages = Messages(trt)
    builder = _builder(package, messages)
    on_stage("TensorRT: parse")
    network = _network(trt, builder)
    parser = trt.OnnxParser(network, messages.logger)
    problems = _parse(parser, cast_model(graph.inline(), precision))
    if problems:
        raise UnsupportedError(f"{_title(package)} refuses the graph:\n  " + "\n  ".join(problems), problems)
    _refuse_other_types(package, network, tensors)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # layers are listed with their tensors
    if precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # set by default; here fp32 means fp32
    if target is not None:
        _set_target(package, config, target)
    _add_profile(builder, config, network, profile)
    on_stage("TensorRT: build")
    messages.clear()
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise BuildError(f"{_title(package)} could not build the network: {messages.errors()}")
    layers = layers_from_log(message for _, message in messages.all)
    return TensorRTPlan(package.name, package.version, precision, target or "", layers, bytes(data))


def _refuse_other_types(package: TensorRT, network: Any, tensors: Sequence[TensorInfo]) -> None:
    """float64 above all, which it takes for float32 with no more than a warning."""
    theirs = {tensor.name: tensor.dtype for tensor in _inputs(network)}
    theirs |= {tensor.name: tensor.dtype for tensor in map(network.get_output, range(network.num_outputs))}
    problems = differing_tensors(tensors, theirs, theirs.__getitem__)
    if problems:
        raise UnsupportedError(
            f"{_title(package)} does not have the types of the model's inputs and outputs: {'; '.join(problems)}. Cast "
            "them inside of the model",
            problems,
        )


def _inputs(network: Any) -> list[Any]:
    return [network.get_input(index) for index in range(network.num_inputs)]


def parser_verdict(package: TensorRT, model: bytes) -> list[str]:
    """Why the package's parser refuses the ONNX ``model``, a reason for each node; [] when it takes it."""
    messages = Messages(package.module)
    network = _network(package.module, _builder(package, messages))
    return _parse(package.module.OnnxParser(network, messages.logger), model)


def _title(package: TensorRT) -> str:
    return f"{package.name} {package.version}"


def _builder(package: TensorRT, messages: Messages) -> Any:
    try:
        return package.module.Builder(messages.logger)
    except (TypeError, RuntimeError) as err:  # what its bindings raise where the library gives no builder
        raise BuildError(
            f"{_title(package)} gives no builder here: {flat(str(err))}; {messages.errors()}. The package tensorrt "
            "needs an NVIDIA GPU and its driver to build; tensorrt_rtx needs none"
        ) from err


def _network(trt: Any, builder: Any) -> Any:
    """Strongly typed: a flag where the package has it, and what every network is where it has not."""
    flag = trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    return builder.create_network(0 if flag is None else 1 << int(flag))


def _parse(parser: Any, model: bytes) -> list[str]:
    if parser.parse(model):
        return []
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return [_problem(error) for error in errors] or ["the parser refuses it and gives no reason"]


def _problem(error: Any) -> str:
    """Such as "Det 'det0' (node 0): UNSUPPORTED_NODE in checkDet: false"; the words are TensorRT's."""
    code = error.code()
    reason = f"{getattr(code, 'name', code)} in {error.func()}: {flat(error.desc())[:600]}"
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    if not operator:
        return reason
    return f"{operator} {error.node_name()!r} (node {error.node()}): {reason}"


def _set_target(package: TensorRT, config: Any, target: str) -> None:
    known = {f"sm_{number}": member for number, member in package.capabilities.items()}
    if target not in known:
        allowed = ", ".join(known) or "none: it builds for the GPU that is here; leave target= out"
        raise ConfigError(f"target: {_title(package)} does not build for {target!r}; allowed: {allowed}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[target], 0)


def _add_profile(builder: Any, config: Any, network: Any, profile: OptimizationProfile) -> None:
    """One, as the engine has it, where a dimension is dynamic."""
    inputs = _inputs(network)
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    shapes = [tensor.name for tensor in inputs if tensor.is_shape_tensor]
    if shapes:
        raise UnsupportedError(
            f"inputs {', '.join(shapes)} decide shapes by their values, for which TensorRT wants a range of values; "
            "trine has none to give. Make them constants of the model",
            shapes,
        )
    if not dynamic:
        return
    made = builder.create_optimization_profile()
    for tensor in dynamic:
        shape = profile.ranges[tensor.name]
        made.set_shape(tensor.name, shape.min, shape.opt, shape.max)
    config.add_optimization_profile(made)
