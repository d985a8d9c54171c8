"""Photos to the arrays that a classifier takes: resize, crop, scale, normalise, lay out."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError, MissingDependencyError
from trine.profile import OptimizationProfile

__all__ = ["IMAGE_SUFFIXES", "Preprocessing", "load_image", "normalise", "preprocessing_for"]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CENTRAL_CROP = 0.875  # 224 of 256: what ImageNet classifiers were evaluated with


@dataclass(frozen=True)
class Preprocessing:
    """pixel (0 to 255) x scale, minus mean, divided by std, for a height x width x channels crop."""

    height: int
    width: int
    channels: int
    resize: int  # the shorter side before the crop
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels_first: bool
    bgr: bool
    dtype: np.dtype[Any]


def preprocessing_for(info: TensorInfo, profile: OptimizationProfile, options: Namespace) -> Preprocessing:
    """What ``info``, a 4-D image input, wants, as far as ``options`` do not say. Raises ConfigError."""
    if len(info.shape) != 4:
        raise ConfigError(
            f"input {info.name!r} has shape {info.shape}, which is no batch of images; give a .npy file for it"
        )
    opt = profile.ranges[info.name].opt if info.name in profile.ranges else (1,) * 4
    dims = [dim if isinstance(dim, int) else opt[axis] for axis, dim in enumerate(info.shape)]
    channels_first = options.layout == "nchw" or (options.layout is None and dims[3] not in (1, 3))
    channels, height, width = dims[1:] if channels_first else (dims[3], *dims[1:3])
    if channels not in (1, 3):
        raise ConfigError(
            f"input {info.name!r} has {channels} channels as {'NCHW' if channels_first else 'NHWC'};"
            " images have 1 or 3. Give --layout, or a .npy file"
        )
    whole = not info.dtype.is_floating  # an engine that takes integers takes pixels as they are
    plain = whole or channels == 1
    mean = options.mean or ((0.0,) if plain else IMAGENET_MEAN)
    std = options.std or ((1.0,) if plain else IMAGENET_STD)
    scale = options.scale if options.scale is not None else (1.0 if whole else 1 / 255)
    for name, values in (("--mean", mean), ("--std", std)):
        if len(values) not in (1, channels):
            raise ConfigError(f"{name} has {len(values)} values; give 1 or {channels}")
    if 0.0 in std:
        raise ConfigError("--std contains 0; pixels are divided by it")
    resize = options.resize or round(min(height, width) / CENTRAL_CROP)
    if resize < min(height, width):
        raise ConfigError(f"--resize {resize} is less than the engine's {height} x {width}; give at least that")
    return Preprocessing(
        height, width, channels, resize, scale, mean, std, channels_first, options.bgr, info.dtype.numpy
    )


def load_image(path: Path, how: Preprocessing) -> np.ndarray[Any, Any]:
    """One image, upright as its EXIF data says, as C x H x W or H x W x C.

    Resized so that its shorter side is ``how.resize`` (bicubic), and cropped in the middle. Raises ConfigError when
    the file is no image, MissingDependencyError without Pillow.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as err:
        raise MissingDependencyError("reading images needs Pillow: pip install 'trine[images]'") from err
    try:
        with Image.open(path) as opened:
            image = _eight_bits(ImageOps.exif_transpose(opened), path).convert("RGB" if how.channels == 3 else "L")
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning, SyntaxError) as err:
        raise ConfigError(f"{path}: cannot be read as an image: {err}") from err
    except OSError as err:
        if err.filename is not None:
            raise
        raise ConfigError(f"{path}: damaged image: {err}") from err  # Pillow's word for a truncated file
    # Both sides must cover the crop, whatever the aspect ratios of the two.
    factor = max(how.resize / min(image.size), how.width / image.width, how.height / image.height)
    size = (max(round(image.width * factor), how.width), max(round(image.height * factor), how.height))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - how.width) // 2, (image.height - how.height) // 2
    image = image.crop((left, top, left + how.width, top + how.height))
    return normalise(np.asarray(image).reshape(how.height, how.width, how.channels), how)


def _eight_bits(image: Any, path: Path) -> Any:
    """A grey image of 16 bits, which Pillow would clip at 255, by the high ones; others as they are.

    Raises ConfigError for pixels of 32 bits: nothing says which of their values is white.
    """
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ConfigError(
            f"{path}: its pixels have 32 bits, and nothing says which value is white; save it with 8 bits a channel, "
            "or give the array that the engine takes as .npy"
        )
    return image


def normalise(pixels: np.ndarray[Any, Any], how: Preprocessing) -> np.ndarray[Any, Any]:
    """uint8 H x W x C pixels as ``how`` says. Computed in float32, as torchvision does."""
    if how.bgr:
        pixels = pixels[:, :, ::-1]
    values: np.ndarray[Any, Any] = pixels.astype(np.float32) * np.float32(how.scale)
    values = (values - np.asarray(how.mean, np.float32)) / np.asarray(how.std, np.float32)
    if how.dtype.kind in "iu":
        limits = np.iinfo(how.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    if how.channels_first:
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values.astype(how.dtype))
