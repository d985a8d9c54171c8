"""What an engine is to answer: images, arrays from files, or seeded random data."""

from __future__ import annotations

import zipfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trine.cli.images import IMAGE_SUFFIXES, load_image, preprocessing_for
from trine.cli.parser import nearest
from trine.cli.shapes import Shape
from trine.engine.manifest import Manifest, TensorInfo
from trine.errors import ConfigError
from trine.verify.inputs import random_inputs

__all__ = ["Call", "calls_from_files", "random_call"]

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Call:
    """One call's arrays, and a name for each row: the image's, or none."""

    inputs: Arrays
    names: tuple[str, ...] = ()


def calls_from_files(files: Sequence[str], manifest: Manifest, options: Namespace) -> Iterator[Call]:
    """The calls that ``files`` ask for: images in batches of at most the profile's max, or one call of arrays.

    Arrays: ``x.npy`` for the only input, ``name=x.npy``, or ``inputs.npz`` with an array for each input. Raises
    ConfigError for what is no such thing, OSError for what cannot be read.
    """
    images = [file for file in files if Path(file).suffix.lower() in IMAGE_SUFFIXES and "=" not in file]
    if not images:
        yield Call(_arrays(files, manifest))
    elif len(images) < len(files):
        other = next(file for file in files if file not in images)
        raise ConfigError(f"{other} is no image, but others are; give images only, or .npy and .npz files only")
    else:
        yield from _image_calls([Path(file).expanduser() for file in images], manifest, options)


def _image_calls(paths: Sequence[Path], manifest: Manifest, options: Namespace) -> Iterator[Call]:
    if len(manifest.inputs) != 1:
        names = ", ".join(info.name for info in manifest.inputs)
        raise ConfigError(f"the engine has {len(manifest.inputs)} inputs ({names}); images fit one. Give an .npz file")
    info = manifest.inputs[0]
    how = preprocessing_for(info, manifest.profile, options)
    limits = manifest.profile.ranges.get(info.name)
    low, high = (limits.min[0], limits.max[0]) if limits else (1, len(paths))
    if isinstance(info.shape[0], int):
        low = high = info.shape[0]
    for start in range(0, len(paths), max(high, 1)):
        part = paths[start : start + max(high, 1)]
        rows = [load_image(path, how) for path in part]
        rows += [rows[-1]] * (low - len(rows))  # a batch below the smallest is filled up; its names end sooner
        yield Call({info.name: np.stack(rows)}, tuple(path.name for path in part))


def _arrays(files: Sequence[str], manifest: Manifest) -> Arrays:
    infos = {info.name: info for info in manifest.inputs}
    arrays: Arrays = {}
    for file in files:
        name, equals, text = file.partition("=")
        path = Path(text if equals else file).expanduser()
        if equals and path.suffix.lower() in IMAGE_SUFFIXES:
            raise ConfigError(f"{file}: images go to an engine with one input, without its name: {text}")
        loaded = _load(path)
        if not isinstance(loaded, dict):
            if not equals and len(infos) != 1:
                raise ConfigError(f"{file}: the engine has inputs {', '.join(infos)}; write NAME={file}")
            loaded = {name if equals else next(iter(infos)): loaded}
        for given, array in loaded.items():
            if given in arrays:
                raise ConfigError(f"{file}: input {given!r} has an array already; give each input once")
            arrays[given] = array
    for name in arrays:
        if name not in infos:
            guess = nearest(name, infos)
            raise ConfigError(
                f"the engine has no input {name!r}{f'; did you mean {guess!r}?' if guess else ''};"
                f" its inputs are: {', '.join(infos)}"
            )
    return {name: _from_storage(array, infos[name]) for name, array in arrays.items()}


def _load(path: Path) -> np.ndarray[Any, Any] | Arrays:
    """The array of a .npy, the arrays of a .npz. Nothing is ever unpickled."""
    if path.suffix.lower() not in (".npy", ".npz"):
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ConfigError(f"{path}: unknown kind of file; give .npy, .npz or an image ({known})")
    try:
        with path.open("rb") as file:  # np.load leaves a damaged .npz open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as err:
        # NumPy takes any other file for a pickle, and says how to load that, which nothing here ever does.
        pickled = "pickle" in str(err)
        why = "it holds Python objects or is no NumPy file at all; save plain arrays" if pickled else str(err)
        raise ConfigError(f"{path}: no readable NumPy file: {why}") from err


def _from_storage(array: np.ndarray[Any, Any], info: TensorInfo) -> np.ndarray[Any, Any]:
    """NumPy files store bfloat16 and fp8 as raw bytes: given their type again."""
    wanted = info.dtype.numpy
    if array.dtype.kind == "V" and array.dtype.itemsize == wanted.itemsize:
        return array.view(wanted)
    return array


def random_call(manifest: Manifest, *, batch: int | None, shapes: dict[str, Shape] | None, seed: int) -> Call:
    """Seeded random arrays of the profile's opt shapes, with another batch or other shapes where given.

    Raises ConfigError for a shape of no input.
    """
    chosen: dict[str, Shape] = {}
    for info in manifest.inputs:
        opt = manifest.profile.ranges[info.name].opt if info.name in manifest.profile.ranges else ()
        shape = tuple(dim if isinstance(dim, int) else opt[axis] for axis, dim in enumerate(info.shape))
        if batch is not None and shape and isinstance(info.shape[0], str):
            shape = (batch, *shape[1:])
        chosen[info.name] = shape
    if batch is not None and all(not info.shape or isinstance(info.shape[0], int) for info in manifest.inputs):
        fixed = manifest.inputs[0].shape[0] if manifest.inputs and manifest.inputs[0].shape else None
        if batch != fixed:
            raise ConfigError(
                f"the engine's batch is fixed at {fixed}; leave out --batch, or build with --batch 1:{batch}"
            )
    for name, shape in (shapes or {}).items():
        if not name and len(chosen) == 1:
            name = next(iter(chosen))
        if name not in chosen:
            raise ConfigError(f"the engine has no input {name!r}; its inputs are: {', '.join(chosen)}")
        chosen[name] = shape
    return Call(random_inputs(manifest.inputs, chosen, seed))
