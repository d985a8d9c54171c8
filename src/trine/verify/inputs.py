"""Seeded inputs to check an engine with, and the cases that every build is checked on.

Reproducible: input number ``i`` (in the model's order) of stream ``s`` comes from
``numpy.random.Generator(PCG64(SeedSequence([seed, s, i])))``. The stream tells cases of one build apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError
from trine.profile import OptimizationProfile

__all__ = ["Case", "Tiling", "build_cases", "random_inputs"]

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

BATCH = "batch"  # the importers' symbol for the dynamic first dimension
LONGEST_SETTING = 16  # fixed lists up to this length are taken for shapes, axes, scales and the like
LEAST_DISTINCT_ROWS = 4  # a batch to tile from, when the profile's opt batch is only 1
MOST_DISTINCT_ROWS = 16  # of an opt batch: a larger one is tiled too


@dataclass(frozen=True)
class Tiling:
    """Row i of this case is row ``rows[i]`` of the case named ``base``."""

    base: str
    rows: Array  # int64, (batch,)


@dataclass(frozen=True)
class Case:
    """A named set of inputs. With ``tiling``, the source's answers may be gathered from another case's."""

    name: str
    inputs: Mapping[str, Array]
    tiling: Tiling | None = None


def random_inputs(
    infos: Sequence[TensorInfo],
    shapes: Mapping[str, tuple[int, ...]],
    seed: int = 0,
    like: Mapping[str, Array] | None = None,
    *,
    stream: int = 0,
) -> Arrays:
    """One array for each of ``infos``, of ``shapes[name]``, with values that resemble ``like[name]``.

    Floats: normal with the example's mean and standard deviation, clipped to its range (so that what is
    never negative stays so); around the example when it is constant; standard normal without one. Integers:
    drawn from those in the example, which the model is known to take, or 0 and 1 without one (safe as an index). Bools:
    fair coins. Strings: the example's, repeated. Scalars, and short lists whose length is fixed, stay the
    example's: they are shapes, axes, limits and ratios rather than data, and a model may not take
    any others. Raises ConfigError when a shape is missing, or strings
    have no example.
    """
    made: Arrays = {}
    for index, info in enumerate(infos):
        if info.name not in shapes:
            raise ConfigError(f"input {info.name!r} has no shape; shapes are given for {sorted(shapes)}")
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream, index])))
        example = None if like is None else like.get(info.name)
        if example is not None and example.shape == shapes[info.name] and _is_setting(info):
            made[info.name] = example.copy()
        else:
            made[info.name] = _random_array(rng, info, shapes[info.name], example)
    return made


def _is_setting(info: TensorInfo) -> bool:
    """Whether it is a shape, axis, limit, ratio or the like, by its looks."""
    if not info.shape:
        return True
    return len(info.shape) == 1 and isinstance(info.shape[0], int) and info.shape[0] <= LONGEST_SETTING


def _random_array(rng: np.random.Generator, info: TensorInfo, shape: tuple[int, ...], example: Array | None) -> Array:
    dtype = info.dtype
    if example is not None and example.size == 0:
        example = None
    if dtype is DataType.BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype is DataType.STRING:
        if 0 in shape:
            return np.empty(shape, object)
        if example is None:
            raise ConfigError(f"input {info.name!r} holds strings, which cannot be made up; give example inputs")
        return np.resize(example, shape)
    if dtype in (DataType.COMPLEX64, DataType.COMPLEX128):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype.numpy)
    if not dtype.is_floating:
        known_to_work = np.array([0, 1]) if example is None else np.unique(example)
        return np.asarray(rng.choice(known_to_work, shape)).astype(dtype.numpy)
    # fp32 draws take half the time and memory of fp64 ones; only fp64 inputs can tell the difference.
    draw = np.float64 if dtype is DataType.FLOAT64 else np.float32
    values = rng.standard_normal(shape, dtype=draw)
    if example is not None:
        known = example.astype(np.float64)
        known = known[np.isfinite(known)]
        if known.size:
            spread = float(known.std())
            values *= spread if spread > 0 else 1.0
            values += float(known.mean())
            if spread > 0:
                np.clip(values, float(known.min()), float(known.max()), out=values)
    return np.asarray(values).astype(dtype.numpy)


def build_cases(
    profile: OptimizationProfile,
    example_inputs: Mapping[str, Array] | None,
    infos: Sequence[TensorInfo],
    seed: int = 0,
    *,
    tile_max: bool = True,
) -> tuple[Case, ...]:
    """The cases of a verified build: the example, and seeded random inputs at the profile's min, opt and max.

    Shapes that coincide are checked once ("min/opt"). With ``tile_max``, a max batch consists of the opt
    batch's rows, shuffled and repeated: every row of it is still computed by the engine and compared, but
    the source, where its rows do not depend on each other (``compare`` measures that, and recomputes in
    full where they do), need not compute each one again. A batch of 64 then costs the source no more than
    one of 8, and the comparison shows that a row's answer is the same among other neighbours. An opt batch
    of 1 has no neighbours, so a batch "rows" of a few is put between; one of hundreds would take the source
    minutes, so that "rows" of 16 stand for it.
    """
    cases: list[Case] = []
    if example_inputs is not None and (fitted := _fitted(example_inputs, profile)) is not None:
        cases.append(Case("example", fitted))
    names: dict[tuple[tuple[int, ...], ...], str] = {}
    for which in ("min", "opt", "max"):
        key = tuple(profile.shapes(which)[info.name] for info in infos)
        names[key] = f"{names[key]}/{which}" if key in names else which
    made: dict[str, Arrays] = {}
    stream = 0
    for key, name in names.items():
        shapes = {info.name: shape for info, shape in zip(infos, key, strict=True)}
        base = _base_of(made, shapes, infos) if tile_max else None
        if base is not None and name != "max" and _batch_of(shapes, infos) <= MOST_DISTINCT_ROWS:
            base = None
        stream += 1
        if base is not None and _batch(made[base], infos) < (2 if name == "max" else MOST_DISTINCT_ROWS):
            rows = LEAST_DISTINCT_ROWS if name == "max" else MOST_DISTINCT_ROWS
            rows = min(rows, _batch_of(shapes, infos))
            few = {info.name: _with_batch(info, shapes[info.name], rows) for info in infos}
            base = "rows" if rows < _batch_of(shapes, infos) else None
            if base is not None:
                made[base] = random_inputs(infos, few, seed, example_inputs, stream=stream)
                cases.append(Case(base, made[base]))
                stream += 1
        if base is None:
            made[name] = random_inputs(infos, shapes, seed, example_inputs, stream=stream)
            cases.append(Case(name, made[name]))
        else:
            cases.append(_tiled(name, base, made[base], infos, _batch_of(shapes, infos), seed, stream))
    return tuple(cases)


def _fitted(example: Mapping[str, Array], profile: OptimizationProfile) -> Arrays | None:
    """The example, where the profile does not admit its shape repeated or cut short to the nearest one that it does.

    None when there is nothing to repeat.
    """
    fitted: Arrays = {}
    for name, array in example.items():
        shape_range = profile.ranges.get(name)
        if shape_range is not None and not shape_range.admits(array.shape):
            for axis, (low, high) in enumerate(zip(shape_range.min, shape_range.max, strict=True)):
                size = min(max(array.shape[axis], low), high)
                if size > 0 == array.shape[axis]:
                    return None
                array = array.take(np.arange(size) % max(array.shape[axis], 1), axis=axis)
        fitted[name] = array
    return fitted


def _tiled(
    name: str, base: str, inputs: Arrays, infos: Sequence[TensorInfo], batch: int, seed: int, stream: int
) -> Case:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream, 0])))
    rows = rng.permutation(np.resize(np.arange(_batch(inputs, infos)), batch))
    arrays = {info.name: inputs[info.name][rows] if _is_batched(info) else inputs[info.name] for info in infos}
    return Case(name, arrays, Tiling(base, rows))


def _base_of(made: dict[str, Arrays], shapes: Mapping[str, tuple[int, ...]], infos: Sequence[TensorInfo]) -> str | None:
    """The last case that differs from ``shapes`` in its batch only; None when there is none, or no batch."""
    if not any(_is_batched(info) for info in infos):
        return None
    for name in reversed(made):
        same = all(
            made[name][info.name].shape[1:] == shapes[info.name][1:]
            if _is_batched(info)
            else made[name][info.name].shape == shapes[info.name]
            for info in infos
        )
        if same:
            return name
    return None


def _is_batched(info: TensorInfo) -> bool:
    return bool(info.shape) and info.shape[0] == BATCH


def _batch_of(shapes: Mapping[str, tuple[int, ...]], infos: Sequence[TensorInfo]) -> int:
    return next(shapes[info.name][0] for info in infos if _is_batched(info))


def _batch(inputs: Mapping[str, Array], infos: Sequence[TensorInfo]) -> int:
    return next(int(inputs[info.name].shape[0]) for info in infos if _is_batched(info))


def _with_batch(info: TensorInfo, shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return (batch, *shape[1:]) if _is_batched(info) else shape
