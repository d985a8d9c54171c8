"""Which shapes an engine will take, decided from the options, the example and the imported graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from trine.builder.config import DEFAULT_MAX_BATCH, BuilderConfig
from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError
from trine.profile import OptimizationProfile, ShapeRange

__all__ = ["choose_profile", "requested_axes"]

log = logging.getLogger("trine")

Limits = tuple[int, int, int]
BATCH = "batch"


def requested_axes(config: BuilderConfig) -> dict[str, dict[int, str]]:
    """The dynamic axes beyond the batch that the options ask for, as {input: {axis: symbol}}."""
    axes: dict[str, dict[int, str]] = {}
    for name, by_axis in config.dynamic.items():
        axes[name] = {axis: BATCH if axis == 0 else f"{name}_{axis}" for axis in by_axis}
    for name, shape_range in config.shapes.items():
        assert isinstance(shape_range, ShapeRange)
        varying = [
            axis
            for axis, (low, high) in enumerate(zip(shape_range.min, shape_range.max, strict=True))
            if low != high and axis != 0
        ]
        if varying:
            axes[name] = {axis: f"{name}_{axis}" for axis in varying}
    return axes


def choose_profile(
    inputs: Sequence[TensorInfo], example: Mapping[str, np.ndarray], config: BuilderConfig, *, made_up: bool = False
) -> OptimizationProfile:
    """A range for every input. ``made_up``: nobody gave ``example``, so that its sizes are nobody's wish.

    Raises ConfigError where an option names what the graph does not have.
    """
    known = {info.name: info for info in inputs}
    for option in ("shapes", "dynamic"):
        for name in getattr(config, option):
            if name not in known:
                raise ConfigError(f"{option}: the model has no input {name!r}; it has {list(known)}")
    limits = _symbol_limits(inputs, example, config, made_up)
    ranges = {}
    for info in inputs:
        triple = [
            tuple(dim if isinstance(dim, int) else limits[dim][which] for dim in info.shape) for which in range(3)
        ]
        ranges[info.name] = ShapeRange(*triple)
    _check_requests(known, ranges, config)
    return OptimizationProfile(ranges)


def _symbol_limits(
    inputs: Sequence[TensorInfo], example: Mapping[str, np.ndarray], config: BuilderConfig, made_up: bool
) -> dict[str, Limits]:
    """(min, opt, max) of each symbol: the first option that speaks of it, else the example's size."""
    limits: dict[str, Limits] = {}
    for info in inputs:
        asked = config.shapes.get(info.name)
        for axis, dim in enumerate(info.shape):
            if isinstance(dim, int):
                continue
            here = example[info.name].shape[axis]
            if isinstance(asked, ShapeRange) and len(asked.min) == len(info.shape):
                found: Limits | None = (asked.min[axis], asked.opt[axis], asked.max[axis])
            elif axis in config.dynamic.get(info.name, {}):
                found = config.dynamic[info.name][axis]
            elif dim == BATCH and config.batch is not None:
                assert isinstance(config.batch, tuple)
                found = config.batch
            elif dim == BATCH and not config.shapes:
                found = (1, max(here, 1), max(here, DEFAULT_MAX_BATCH))
            else:
                found = None
            if found is not None:
                if limits.get(dim, found) != found:
                    raise ConfigError(
                        f"input {info.name!r} axis {axis} ({dim}): asked for {found}, but another input with the "
                        f"same dimension asks for {limits[dim]}; give both the same range"
                    )
                limits[dim] = found
    for info in inputs:
        for axis, dim in enumerate(info.shape):
            if isinstance(dim, str) and dim not in limits:
                here = example[info.name].shape[axis]
                limits[dim] = (here, here, here)
                if made_up:
                    said, advice = "nothing says how large it is, so the engine takes exactly", "; or give an example"
                else:
                    said, advice = "the engine takes exactly the example's", ""
                log.log(
                    logging.WARNING if made_up else logging.INFO,
                    "input %r axis %d (%s): %s %d; name a range with dynamic= or shapes= (--minShapes=%s:..., "
                    "--optShapes, --maxShapes)%s",
                    *(info.name, axis, dim, said, here, info.name, advice),
                )
    return limits


def _check_requests(known: Mapping[str, TensorInfo], ranges: Mapping[str, ShapeRange], config: BuilderConfig) -> None:
    """Refuse options that ask for something the imported graph fixes."""
    for name, asked in config.shapes.items():
        if asked != ranges[name]:
            assert isinstance(asked, ShapeRange)
            raise ConfigError(
                f"shapes[{name!r}]: asked for {list(asked.min)} to {list(asked.max)}, tuned for {list(asked.opt)}, but "
                f"the model takes {list(known[name].shape)}; only its dynamic dimensions can be given a range, and "
                "of a PyTorch module those of which min and max differ: the others have the example's size"
            )
    for name, axes in config.dynamic.items():
        for axis in axes:
            shape = known[name].shape
            if axis >= len(shape) or isinstance(shape[axis], int):
                raise ConfigError(f"dynamic[{name!r}]: axis {axis} is fixed in the model, which takes {list(shape)}")
    batch = config.batch
    if isinstance(batch, tuple) and not any(BATCH in info.shape for info in known.values()):
        fixed = sorted({info.shape[0] for info in known.values() if info.shape}, key=str)
        if fixed != [batch[0]] or batch[0] != batch[2]:
            raise ConfigError(
                f"batch: asked for {batch}, but the model's batch is fixed: its first dimensions are {fixed}. "
                "Export it with a dynamic batch, or leave out batch"
            )
