from __future__ import annotations

import numpy as np
import pytest

from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo
from trine.errors import ConfigError
from trine.profile import OptimizationProfile, ShapeRange
from trine.verify.inputs import build_cases, random_inputs

IMAGE = TensorInfo("image", DataType.FLOAT32, ("batch", 3, 4, 4))
IDS = TensorInfo("ids", DataType.INT64, ("batch", 5))
SCALE = TensorInfo("scale", DataType.FLOAT32, (3,))


def test_the_same_seed_gives_the_same_arrays() -> None:
    shapes = {"image": (2, 3, 4, 4), "ids": (2, 5)}
    first = random_inputs((IMAGE, IDS), shapes, 3)
    again = random_inputs((IMAGE, IDS), shapes, 3)
    other = random_inputs((IMAGE, IDS), shapes, 4)
    assert first["image"].dtype == np.float32
    assert np.array_equal(first["image"], again["image"])
    assert not np.array_equal(first["image"], other["image"])
    assert not np.array_equal(first["image"], random_inputs((IMAGE, IDS), shapes, 3, stream=1)["image"])


def test_documented_generator() -> None:
    made = random_inputs((IMAGE,), {"image": (1, 3, 4, 4)}, 9, stream=2)["image"]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([9, 2, 0])))
    assert np.array_equal(made, rng.standard_normal((1, 3, 4, 4), dtype=np.float32))


def test_floats_resemble_the_example() -> None:
    example = np.random.default_rng(0).uniform(0, 255, (1, 3, 4, 4)).astype(np.float32)
    made = random_inputs((IMAGE,), {"image": (64, 3, 4, 4)}, 0, {"image": example})["image"]
    assert example.min() <= made.min()
    assert made.max() <= example.max()
    assert abs(made.mean() - example.mean()) < 15


def test_a_constant_or_non_finite_example_still_gives_varied_values() -> None:
    for value in (0.0, 5.0, np.nan):
        example = np.full((1, 3, 4, 4), value, np.float32)
        made = random_inputs((IMAGE,), {"image": (4, 3, 4, 4)}, 0, {"image": example})["image"]
        assert np.isfinite(made).all()
        assert made.std() > 0.5


def test_integers_are_those_of_the_example_and_default_to_zero_and_one() -> None:
    example = np.array([[3, 9, 4, 5, 7]], np.int64)
    made = random_inputs((IDS,), {"ids": (100, 5)}, 0, {"ids": example})["ids"]
    assert made.dtype == np.int64
    assert set(np.unique(made)) == {3, 4, 5, 7, 9}  # the model is known to take these: 6 and 8 it may not
    assert set(np.unique(random_inputs((IDS,), {"ids": (100, 5)})["ids"])) == {0, 1}


@pytest.mark.parametrize("dtype", [d for d in DataType if d is not DataType.STRING and d.bits >= 4])
def test_every_dtype_can_be_made(dtype: DataType) -> None:
    made = random_inputs((TensorInfo("x", dtype, (2, 3)),), {"x": (2, 3)})["x"]
    assert made.shape == (2, 3)
    assert made.dtype == dtype.numpy


def test_full_range_integers() -> None:
    for dtype in (DataType.UINT64, DataType.INT64):
        limits = np.array([np.iinfo(dtype.value).min, np.iinfo(dtype.value).max], dtype.value)
        made = random_inputs((TensorInfo("x", dtype, (50,)),), {"x": (50,)}, 0, {"x": limits})["x"]
        assert set(made.tolist()) == set(limits.tolist())


def test_settings_stay_the_example_s() -> None:
    infos = (
        TensorInfo("shape", DataType.INT64, (3,)),
        TensorInfo("ratio", DataType.FLOAT32, ()),
        TensorInfo("data", DataType.INT64, ("batch",)),
        TensorInfo("long", DataType.FLOAT32, (17,)),
    )
    like = {
        "shape": np.array([2, 3, 4]),
        "ratio": np.float32(0.5) * np.ones(()),
        "data": np.arange(100),
        "long": np.arange(17, dtype=np.float32),
    }
    made = random_inputs(infos, {name: array.shape for name, array in like.items()}, 0, like)
    assert [np.array_equal(made[name], like[name]) for name in like] == [True, True, False, False]


def test_strings_need_an_example() -> None:
    info = TensorInfo("words", DataType.STRING, ("batch",))
    assert list(random_inputs((info,), {"words": (3,)}, 0, {"words": np.array(["a", "b"], object)})["words"]) == list(
        "aba"
    )
    with pytest.raises(ConfigError, match="give example inputs"):
        random_inputs((info,), {"words": (3,)})


def test_missing_shape() -> None:
    with pytest.raises(ConfigError, match="'image' has no shape"):
        random_inputs((IMAGE,), {})


def profile(low: int, opt: int, high: int) -> OptimizationProfile:
    tail = (3, 4, 4)
    return OptimizationProfile(
        {
            "image": ShapeRange((low, *tail), (opt, *tail), (high, *tail)),
            "scale": ShapeRange((3,), (3,), (3,)),
        }
    )


def cases_of(low: int, opt: int, high: int, **options: bool) -> dict[str, tuple[int, str | None]]:
    example = random_inputs((IMAGE, SCALE), {"image": (2, 3, 4, 4), "scale": (3,)}, 1)
    cases = build_cases(profile(low, opt, high), example, (IMAGE, SCALE), 5, **options)
    return {c.name: (c.inputs["image"].shape[0], c.tiling.base if c.tiling else None) for c in cases}


def test_min_opt_and_max_are_all_there() -> None:
    assert cases_of(1, 8, 64) == {
        "example": (2, None),
        "min": (1, None),
        "opt": (8, None),
        "max": (64, "opt"),
    }
    assert cases_of(1, 8, 64, tile_max=False)["max"] == (64, None)


@pytest.mark.parametrize(("low", "high", "batch"), [(4, 4, 4), (1, 1, 1), (3, 64, 3)])
def test_an_example_outside_the_profile_is_repeated_or_cut(low: int, high: int, batch: int) -> None:
    example = random_inputs((IMAGE, SCALE), {"image": (2, 3, 4, 4), "scale": (3,)}, 1)
    case = build_cases(profile(low, low, high), example, (IMAGE, SCALE), 5)[0]
    assert case.name == "example"
    assert case.inputs["image"].shape == (batch, 3, 4, 4)
    np.testing.assert_array_equal(case.inputs["image"], example["image"][np.arange(batch) % 2])
    np.testing.assert_array_equal(case.inputs["scale"], example["scale"])


def test_an_opt_batch_of_one_gets_a_few_rows_to_tile() -> None:
    assert cases_of(1, 1, 64) == {
        "example": (2, None),
        "min/opt": (1, None),
        "rows": (4, None),
        "max": (64, "rows"),
    }
    assert cases_of(1, 1, 3) == {"example": (2, None), "min/opt": (1, None), "max": (3, None)}


def test_a_large_opt_batch_is_tiled_from_a_few_rows() -> None:
    assert cases_of(1, 17, 64) == {
        "example": (2, None),
        "min": (1, None),
        "rows": (16, None),
        "opt": (17, "rows"),
        "max": (64, "rows"),
    }
    assert cases_of(1, 128, 128)["opt/max"] == (128, "rows")
    few = cases_of(2, 64, 256)
    assert (few["rows"], few["opt"], few["max"]) == ((16, None), (64, "rows"), (256, "rows"))


def test_coinciding_shapes_are_checked_once() -> None:
    assert cases_of(1, 16, 16) == {"example": (2, None), "min": (1, None), "opt/max": (16, None)}
    assert cases_of(4, 4, 4) == {"example": (4, None), "min/opt/max": (4, None)}
    assert cases_of(1, 8, 8) == {"example": (2, None), "min": (1, None), "opt/max": (8, None)}


def test_tiles_are_rows_of_their_base() -> None:
    example = random_inputs((IMAGE, SCALE), {"image": (2, 3, 4, 4), "scale": (3,)}, 1)
    cases = {c.name: c for c in build_cases(profile(1, 8, 20), example, (IMAGE, SCALE), 5)}
    tiling = cases["max"].tiling
    assert tiling is not None
    assert np.array_equal(cases["max"].inputs["image"], cases["opt"].inputs["image"][tiling.rows])
    assert np.array_equal(cases["max"].inputs["scale"], cases["opt"].inputs["scale"])
    assert set(tiling.rows) == set(range(8))
    assert not np.array_equal(tiling.rows, np.sort(tiling.rows))


def test_no_tiling_when_other_dimensions_grow_too() -> None:
    wide = OptimizationProfile({"image": ShapeRange((1, 3, 4, 4), (2, 3, 4, 4), (8, 3, 9, 9))})
    example = random_inputs((IMAGE,), {"image": (2, 3, 4, 4)}, 1)
    cases = build_cases(wide, example, (IMAGE,), 5)
    assert [c.tiling for c in cases] == [None] * 4
    assert cases[-1].inputs["image"].shape == (8, 3, 9, 9)


def test_without_a_batch_axis() -> None:
    info = TensorInfo("x", DataType.FLOAT32, (2, "length"))
    lengths = OptimizationProfile({"x": ShapeRange((2, 1), (2, 4), (2, 9))})
    cases = build_cases(lengths, {"x": np.zeros((2, 4), np.float32)}, (info,), 5)
    assert [c.inputs["x"].shape for c in cases] == [(2, 4), (2, 1), (2, 4), (2, 9)]
