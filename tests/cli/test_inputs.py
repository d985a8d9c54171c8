from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from trine.cli.inputs import calls_from_files, random_call
from trine.dtypes import DataType
from trine.engine.manifest import Manifest, TensorInfo
from trine.errors import ConfigError
from trine.profile import OptimizationProfile, ShapeRange

PLAIN = Namespace(layout=None, mean=None, std=None, scale=None, resize=None, bgr=False)


def manifest(*infos: TensorInfo, low: int = 1, opt: int = 2, high: int = 3) -> Manifest:
    def sized(info: TensorInfo, batch: int) -> tuple[int, ...]:
        return tuple(dim if isinstance(dim, int) else batch for dim in info.shape)

    ranges = {info.name: ShapeRange(sized(info, low), sized(info, opt), sized(info, high)) for info in infos}
    return Manifest("m", "s", infos, (), OptimizationProfile(ranges))


IMAGES = TensorInfo("images", DataType.FLOAT32, ("batch", 3, 8, 8))
IDS = TensorInfo("ids", DataType.INT64, ("batch", 4))
MASK = TensorInfo("mask", DataType.FLOAT32, ("batch", 4))


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.new("RGB", (10, 10), (number, 0, 0)).save(path)
    return [str(path) for path in paths]


def test_images_go_in_batches_of_at_most_the_largest(photos: list[str]) -> None:
    calls = list(calls_from_files(photos, manifest(IMAGES), PLAIN))
    assert [call.inputs["images"].shape[0] for call in calls] == [3, 2]
    assert [call.names for call in calls] == [("0.png", "1.png", "2.png"), ("3.png", "4.png")]


def test_a_batch_below_the_smallest_is_filled_up(photos: list[str]) -> None:
    (call,) = calls_from_files(photos[:1], manifest(IMAGES, low=2), PLAIN)
    assert call.inputs["images"].shape[0] == 2
    assert call.names == ("0.png",)


def test_each_input_once(tmp_path: Path, photos: list[str]) -> None:
    np.save(tmp_path / "ids.npy", np.arange(4)[None])
    file = f"{tmp_path}/ids.npy"
    with pytest.raises(ConfigError, match="input 'ids' has an array already"):
        list(calls_from_files([file, file], manifest(IDS), PLAIN))
    with pytest.raises(ConfigError, match="images go to an engine with one input, without its name"):
        list(calls_from_files([f"images={photos[0]}"], manifest(IMAGES), PLAIN))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_nothing_advises_to_unpickle(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"garbage" * 9)
    with pytest.raises(ConfigError, match="holds Python objects or is no NumPy file at all") as caught:
        list(calls_from_files([str(tmp_path / name)], manifest(IDS), PLAIN))
    assert "allow_pickle" not in str(caught.value)


def test_arrays_by_name_and_alone(tmp_path: Path) -> None:
    ids, mask = np.arange(4)[None], np.ones((1, 4), np.float32)
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "mask.npy", mask)
    np.savez(tmp_path / "both.npz", ids=ids, mask=mask)
    for files in ([f"ids={tmp_path}/ids.npy", f"mask={tmp_path}/mask.npy"], [f"{tmp_path}/both.npz"]):
        (call,) = calls_from_files(files, manifest(IDS, MASK), PLAIN)
        np.testing.assert_array_equal(call.inputs["ids"], ids)
        np.testing.assert_array_equal(call.inputs["mask"], mask)
    (call,) = calls_from_files([f"{tmp_path}/ids.npy"], manifest(IDS), PLAIN)
    np.testing.assert_array_equal(call.inputs["ids"], ids)


def test_bfloat16_keeps_its_type_through_a_file(tmp_path: Path) -> None:
    array = np.ones((1, 4), ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", array)
    info = TensorInfo("x", DataType.BFLOAT16, ("batch", 4))
    (call,) = calls_from_files([f"{tmp_path}/x.npy"], manifest(info), PLAIN)
    assert call.inputs["x"].dtype == ml_dtypes.bfloat16


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="no readable NumPy file"):
        list(calls_from_files([f"{tmp_path}/x.npy"], manifest(IDS), PLAIN))


def test_files_that_do_not_fit(tmp_path: Path, photos: list[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "empty.npy").write_bytes(b"")
    cases = [
        ([f"{tmp_path}/x.npy", photos[0]], manifest(IMAGES), r"x\.npy is no image, but others are"),
        ([f"{tmp_path}/x.npy"], manifest(IDS, MASK), "write NAME="),
        ([f"idz={tmp_path}/x.npy"], manifest(IDS, MASK), "no input 'idz'; did you mean 'ids'"),
        ([f"{tmp_path}/x.txt"], manifest(IDS), "unknown kind of file"),
        ([f"{tmp_path}/cut.npz"], manifest(IDS), "no readable NumPy file"),
        ([f"{tmp_path}/empty.npy"], manifest(IDS), "no readable NumPy file"),
        (photos, manifest(IDS, MASK), "the engine has 2 inputs"),
    ]
    for files, made, says in cases:
        with pytest.raises(ConfigError, match=says):
            list(calls_from_files(files, made, PLAIN))


def test_random_data_has_the_tuned_shape_and_is_seeded() -> None:
    first = random_call(manifest(IMAGES), batch=None, shapes=None, seed=1).inputs["images"]
    again = random_call(manifest(IMAGES), batch=None, shapes=None, seed=1).inputs["images"]
    other = random_call(manifest(IMAGES), batch=None, shapes=None, seed=2).inputs["images"]
    assert first.shape == (2, 3, 8, 8)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_data_of_other_shapes() -> None:
    assert random_call(manifest(IMAGES), batch=3, shapes=None, seed=0).inputs["images"].shape[0] == 3
    shapes = {"": (1, 3, 8, 8)}
    assert random_call(manifest(IMAGES), batch=None, shapes=shapes, seed=0).inputs["images"].shape[0] == 1
    with pytest.raises(ConfigError, match="no input 'x'"):
        random_call(manifest(IMAGES), batch=None, shapes={"x": (1,)}, seed=0)
    fixed = TensorInfo("x", DataType.FLOAT32, (2, 3))
    with pytest.raises(ConfigError, match="batch is fixed at 2"):
        random_call(manifest(fixed), batch=3, shapes=None, seed=0)
