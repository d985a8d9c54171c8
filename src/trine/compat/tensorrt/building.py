"""From a network and a config to an engine: what TensorRT's options mean to trine's builder. Read ``build``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trine.compat.tensorrt.int8_builds import quantized
from trine.compat.tensorrt.plan_info import PlanInfo
from trine.compat.tensorrt.refitter import SOURCE_PLAN
from trine.errors import ConfigError, UnsupportedError
from trine.profile import ShapeRange

if TYPE_CHECKING:
    from trine.compat.tensorrt.config import IBuilderConfig
    from trine.compat.tensorrt.logger import Reporter
    from trine.compat.tensorrt.network import INetworkDefinition
    from trine.compat.tensorrt.tensor import ITensor
    from trine.engine.engine import Engine

__all__ = ["build", "check", "lower_precisions"]

Ranges = dict[str, ShapeRange]
_REFUSED_FLAGS = {
    "FP8": "trine cannot lower a network to FP8 yet; put quantize and dequantize layers into it",
    "INT4": "trine cannot lower a network to INT4 yet; put dequantize layers into it",
    "FP4": "trine cannot lower a network to FP4 yet; put dequantize layers into it",
    "STRIP_PLAN": "trine's engines hold their weights: the graph is compiled from them where it is loaded",
    "WEIGHTLESS": "trine's engines hold their weights: the graph is compiled from them where it is loaded",
    "REFIT_IDENTICAL": "trine's engines hold their weights: there is no stripped plan to refit",
}
_INT8_BUDGET = 0.1
_PHASES = ("Import", "Optimize", "Compile and time", "Verify")


def build(
    network: INetworkDefinition, config: IBuilderConfig, reporter: Reporter, max_batch_size: int, max_threads: int
) -> Engine | None:
    """The engine, verified against the network by ONNX's reference; None where the progress monitor ended the build.

    Raises TrineError where the network or the config cannot be built.
    """
    import trine

    profiles = check(network, config, max_batch_size)
    source = _source(network)
    options: dict[str, Any] = {}
    if "INT8" in config._flags:
        source = quantized(network, config, source, profiles[0], reporter)
        # Backends round and saturate in different places, by a level of 127 here and there.
        options["accuracy_budget"] = _INT8_BUDGET
    with _watched(config) as go_on, _cache_file(config) as cache:
        if not go_on():
            reporter.info("the progress monitor ended the build")
            return None
        engine = _first_that_builds(
            trine.build,
            source,
            _precisions(network, config, reporter),
            reporter,
            shapes=_union(profiles),
            timing_cache=cache,
            threads=max_threads or None,
            **options,
        )
        if not go_on(len(_PHASES)):
            engine.close()
            reporter.info("the progress monitor ended the build")
            return None
    info = PlanInfo(
        implicit=network._implicit,
        max_batch_size=max_batch_size if network._implicit else 1,
        profiles=tuple(profiles),
        refittable="REFIT" in config._flags,
        verbosity=config._verbosity,
    )
    info.put(engine)
    if info.refittable:
        engine.plans[SOURCE_PLAN] = source if isinstance(source, bytes) else source.read_bytes()
    reporter.info(f"built {engine!r}")
    return engine


def check(network: INetworkDefinition, config: IBuilderConfig, max_batch_size: int) -> list[Ranges]:
    """The profiles' ranges, of all inputs. Raises ConfigError or UnsupportedError for what cannot be built."""
    if not network.num_outputs:
        raise ConfigError("Network must have at least one output; call network.mark_output(tensor)")
    if config._capability not in ("STANDARD", "DEFAULT"):
        raise UnsupportedError(f"EngineCapability.{config._capability}: trine builds standard engines only")
    for flag in sorted(config._flags & _REFUSED_FLAGS.keys()):
        raise UnsupportedError(f"BuilderFlag.{flag}: {_REFUSED_FLAGS[flag]}")
    lowered = config._flags & {"FP16", "BF16", "INT8"}
    if network._strongly_typed() and lowered:
        raise ConfigError(
            f"BuilderFlag.{sorted(lowered)[0]} and a strongly typed network: its types are as written; cast in it"
        )
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs if tensor is not None}
    if network._implicit:
        return [{tensor.name: _with_batch(tensor, max_batch_size) for tensor in inputs if tensor is not None}]
    dynamic = {name: shape for name, shape in shapes.items() if -1 in shape}
    fixed = {name: ShapeRange(shape, shape, shape) for name, shape in shapes.items() if -1 not in shape}
    if dynamic and not config._profiles:
        raise ConfigError(
            "Network has dynamic or shape inputs, but no optimization profile has been defined: "
            f"{', '.join(f'{name} {shape}' for name, shape in dynamic.items())}; call "
            "config.add_optimization_profile(profile) with set_shape for each"
        )
    found = []
    for number, profile in enumerate(config._profiles or [None]):
        ranges = dict(fixed)
        for name, shape in dynamic.items():
            assert profile is not None
            ranges[name] = _range_of(name, shape, profile._ranges.get(name), number)
        found.append(ranges)
    return found


def _with_batch(tensor: ITensor, max_batch_size: int) -> ShapeRange:
    """The range of an input whose batch is implicit: 1 to the largest, or what a parsed model fixes."""
    batch, *rest = tensor._tensor.shape
    if any(not isinstance(dim, int) for dim in rest):
        raise ConfigError(
            f"input {tensor.name!r} is {tuple(tensor.shape)}: without an explicit batch, dimensions are fixed; create "
            "the network with EXPLICIT_BATCH for dynamic ones"
        )
    low, high = (batch, batch) if isinstance(batch, int) else (1, max_batch_size)
    return ShapeRange((low, *rest), (high, *rest), (high, *rest))


def _range_of(name: str, shape: tuple[int, ...], asked: ShapeRange | None, number: int) -> ShapeRange:
    if asked is None:
        raise ConfigError(
            f"optimization profile {number} is missing the dynamic input {name!r} {shape}; call "
            f"profile.set_shape({name!r}, min, opt, max)"
        )
    fits = len(asked.min) == len(shape) and all(
        dim in (-1, low) and (dim == -1 or low == high)
        for dim, low, high in zip(shape, asked.min, asked.max, strict=True)
    )
    if not fits:
        raise ConfigError(
            f"optimization profile {number}: input {name!r} is {shape}, but its range is {asked.min} to {asked.max}; "
            "only dimensions of -1 can have one"
        )
    return asked


def _union(profiles: list[Ranges]) -> Mapping[str, ShapeRange]:
    """A range for each dynamic input that covers all profiles, tuned for the first's opt."""
    union = {}
    for name, first in profiles[0].items():
        ranges = [profile[name] for profile in profiles]
        low = tuple(map(min, zip(*(r.min for r in ranges), strict=True)))
        high = tuple(map(max, zip(*(r.max for r in ranges), strict=True)))
        if low != high or first.min != first.max:
            union[name] = ShapeRange(low, first.opt, high)
    return union


def lower_precisions() -> tuple[str, ...]:
    """Which of "bf16" and "fp16" a backend computes in on this machine."""
    from trine.backends.cpu.tactics import CPU_TACTICS

    return tuple(
        precision
        for precision in ("bf16", "fp16")
        if any(not tactic.supports(precision).reasons for tactic in CPU_TACTICS)
    )


def _precisions(network: INetworkDefinition, config: IBuilderConfig, reporter: Reporter) -> list[str]:
    """What to try, in this order. TensorRT's FP16 and BF16 flags allow a precision; they do not demand it."""
    asked = [name for flag, name in (("BF16", "bf16"), ("FP16", "fp16")) if flag in config._flags]
    can = [name for name in asked if name in lower_precisions()]
    for name in asked:
        if name not in can:
            reporter.warning(f"BuilderFlag.{name.upper()}: this CPU does not compute in {name}; fp32 is used instead")
    if len(can) == 2:
        return ["best"]
    return [*can, "fp32"]


def _first_that_builds(
    trine_build: Any, source: Any, precisions: list[str], reporter: Reporter, **options: Any
) -> Engine:
    from trine.errors import AccuracyError

    for precision in precisions[:-1]:
        try:
            lowered: Engine = trine_build(source, precision=precision, **options)
        except AccuracyError as err:
            reporter.warning(f"{precision} is outside the accuracy budget, fp32 is used instead: {err}")
        else:
            return lowered
    engine: Engine = trine_build(source, precision=precisions[-1], **options)
    return engine


def _source(network: INetworkDefinition) -> Any:
    """What trine builds from: the ONNX bytes or path that the parser read, or the network as ONNX bytes."""
    wanted = {}
    for index in range(network.num_outputs):
        tensor = network.get_output(index)
        assert tensor is not None
        if tensor._wanted is not None:
            wanted[tensor.name] = tensor._wanted
    changed = network._source is None or getattr(network._net, "changed", False)
    source = network._net.to_onnx() if changed else network._source
    if wanted:
        from trine.compat.tensorrt.output_types import with_output_types

        return with_output_types(source, wanted)
    return source


@contextlib.contextmanager
def _cache_file(config: IBuilderConfig) -> Iterator[Path | None]:
    """The config's timing cache as a file for trine's builder, read back afterwards."""
    if config._cache is None or "DISABLE_TIMING_CACHE" in config._flags:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="trine-timing-") as folder:
        path = Path(folder) / "timings.json"
        path.write_bytes(config._cache.serialize())
        yield path
        config._cache._read(path.read_bytes())


@contextlib.contextmanager
def _watched(config: IBuilderConfig) -> Iterator[Any]:
    """Tells the progress monitor. Gives a call that reports a step, and says whether to go on.

    trine's builder is one call, so its phases are told when it is entered and when it is left.
    """
    monitor = config.progress_monitor
    if monitor is None:
        yield lambda steps=1: True
        return
    name = "Building engine"
    monitor.phase_start(name, None, len(_PHASES) + 1)
    done = 0

    def step(steps: int = 1) -> bool:
        nonlocal done
        for _ in range(steps):
            if not monitor.step_complete(name, done):
                return False
            done += 1
        return True

    try:
        yield step
    finally:
        monitor.phase_finish(name)
