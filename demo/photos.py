"""The six photographs, which ship inside scikit-image and scikit-learn, and how the network wants them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 224  # pixels on each side, as EfficientNet-Lite0 was trained


@dataclass(frozen=True)
class Photograph:
    """A photograph: where it lies, what it shows, and whose it is."""

    path: Path
    shows: str
    credit: str


def _inside(package: str, name: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"The demo needs the package that has {package}/{name}. Run `make setup`.")
    return Path(spec.submodule_search_locations[0]) / name


PHOTOS = (
    Photograph(_inside("skimage", "data/chelsea.png"), "Chelsea, a cat", "Stéfan van der Walt, CC0"),
    Photograph(_inside("skimage", "data/coffee.png"), "a cup of espresso", "Rachel Michetti, CC0"),
    Photograph(_inside("skimage", "data/rocket.jpg"), "a rocket on its pad", "SpaceX, CC0"),
    Photograph(_inside("skimage", "data/motorcycle_left.png"), "a motorcycle", "Daniel Scharstein et al., CC0"),
    Photograph(_inside("sklearn", "datasets/images/china.jpg"), "a palace", "danielbuechele, CC BY 2.0"),
    Photograph(_inside("sklearn", "datasets/images/flower.jpg"), "a flower", "vultilion, CC BY 2.0"),
)


def pixels(photo: Photograph) -> np.ndarray:
    """The photo as the network takes it: centre square, (3, 224, 224) float32, (value - 127) / 128, RGB."""
    with Image.open(photo.path) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.convert("RGB").crop((left, top, left + side, top + side))
        small = square.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return ((np.asarray(small, np.float32) - 127) / 128).transpose(2, 0, 1)


def thumbnail(photo: Photograph) -> bytes:
    """The whole photo as a JPEG of at most 640 pixels a side."""
    buffer = io.BytesIO()
    with Image.open(photo.path) as image:
        small = image.convert("RGB")
    small.thumbnail((640, 640))
    small.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def batch() -> np.ndarray:
    """All photos: (6, 3, 224, 224) float32."""
    return np.stack([pixels(photo) for photo in PHOTOS])
