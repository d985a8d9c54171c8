from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trine.cli.image_options import add_image_options
from trine.cli.images import load_image, preprocessing_for
from trine.cli.parser import Parser, UsageError
from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError
from trine.profile import OptimizationProfile, ShapeRange

FIRST = TensorInfo("x", DataType.FLOAT32, ("batch", 3, 8, 8))
LAST = TensorInfo("x", DataType.FLOAT32, ("batch", 8, 8, 3))
GREY = TensorInfo("x", DataType.FLOAT32, ("batch", 1, 8, 8))
BYTES = TensorInfo("x", DataType.UINT8, (1, 8, 8, 3))


def options(*arguments: str) -> Namespace:
    parser = Parser("run", "[options]", "", ["trine run"])
    add_image_options(parser)
    return parser.parse(arguments)


def load(path: Path, info: TensorInfo, *arguments: str) -> np.ndarray:
    return load_image(path, preprocessing_for(info, OptimizationProfile(), options(*arguments)))


@pytest.fixture
def red(tmp_path: Path) -> Path:
    """16 wide, 12 high, all (255, 0, 51)."""
    path = tmp_path / "red.png"
    Image.new("RGB", (16, 12), (255, 0, 51)).save(path)
    return path


def test_defaults_are_imagenet_s(red: Path) -> None:
    array = load(red, FIRST)
    assert (array.shape, array.dtype) == ((3, 8, 8), np.float32)
    wanted = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(array[:, 3, 3], wanted, rtol=1e-6)
    assert array.flags.c_contiguous


def test_options_change_each_step(red: Path) -> None:
    np.testing.assert_allclose(
        load(red, LAST, "--scale", "1", "--mean", "127", "--std=128")[0, 0],
        [1.0, -127 / 128, (51 - 127) / 128],
        rtol=1e-6,
    )
    np.testing.assert_allclose(load(red, LAST, "--mean=0", "--std=1", "--bgr")[0, 0], [0.2, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(load(red, LAST, "--mean=0,0,0", "--std=1", "--scale=2/255")[0, 0, 0], 2, rtol=1e-6)


def test_grey_images_are_0_to_1(red: Path) -> None:
    array = load(red, GREY)
    assert array.shape == (1, 8, 8)
    assert 0.3 < array.min() == array.max() < 0.4


def test_16_bits_are_scaled_to_8_and_not_clipped(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(grey).save(tmp_path / "deep.png")
    array = load(tmp_path / "deep.png", GREY, "--resize", "8")
    np.testing.assert_allclose(array[0], (grey // 256) / 255, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_have_no_white(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.ones((8, 8), dtype)).save(tmp_path / "deep.tiff")
    with pytest.raises(ConfigError, match=r"deep\.tiff: its pixels have 32 bits"):
        load(tmp_path / "deep.tiff", GREY)


def test_integer_inputs_take_pixels_as_they_are(red: Path) -> None:
    array = load(red, BYTES)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array[0, 0], [255, 0, 51])


def test_the_middle_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    array = load(tmp_path / "wide.png", LAST, "--resize", "8", "--mean", "0", "--std", "1")
    assert array.min() == 1.0


def test_a_photo_lying_on_its_side_is_turned(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "turned.png", exif=exif)
    array = load(tmp_path / "turned.png", LAST, "--resize", "8", "--mean", "0", "--std", "1")
    assert array[0].max() == 0.0
    assert array[7].min() == 1.0


def test_a_tall_crop_of_a_wide_photo_is_filled(red: Path) -> None:
    assert load(red, TensorInfo("x", DataType.FLOAT32, (1, 3, 40, 8))).shape == (3, 40, 8)


def test_sizes_that_vary_come_from_the_profile() -> None:
    info = TensorInfo("x", DataType.FLOAT32, ("batch", 3, "height", "width"))
    shapes = ShapeRange((1, 3, 8, 8), (1, 3, 16, 12), (1, 3, 32, 32))
    how = preprocessing_for(info, OptimizationProfile({"x": shapes}), options())
    assert (how.height, how.width, how.resize) == (16, 12, 14)


@pytest.mark.parametrize(
    ("info", "arguments", "says"),
    [
        (TensorInfo("x", DataType.FLOAT32, ("batch", 10)), (), "no batch of images"),
        (TensorInfo("x", DataType.FLOAT32, (1, 7, 8, 8)), (), "7 channels as NCHW"),
        (FIRST, ("--layout", "nhwc"), "8 channels as NHWC"),
        (FIRST, ("--mean", "0,0"), "--mean has 2 values; give 1 or 3"),
        (FIRST, ("--std", "1,0,1"), "--std contains 0"),
        (FIRST, ("--resize", "4"), "--resize 4 is less than"),
    ],
)
def test_options_that_do_not_fit(info: TensorInfo, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        preprocessing_for(info, OptimizationProfile(), options(*arguments))


def test_wrong_numbers_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="argument --scale: expected a number or a fraction"):
        options("--scale", "1/0")


def test_files_that_are_no_images(tmp_path: Path, red: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ConfigError, match=r"text\.png: cannot be read as an image"):
        load(tmp_path / "text.png", FIRST)
    (tmp_path / "cut.bmp").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cut\.bmp"):
        load(tmp_path / "cut.bmp", FIRST)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    with pytest.raises(ConfigError, match=r"half\.jpg"):
        load(tmp_path / "half.jpg", FIRST)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.png", FIRST)
