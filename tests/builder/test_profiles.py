import numpy as np
import pytest

import trine
from trine.builder.config import BuilderConfig
from trine.builder.profiles import choose_profile, requested_axes
from trine.dtypes import DataType
from trine.engine.manifest import TensorInfo

IMAGE = TensorInfo("x", DataType.FLOAT32, ("batch", 3, "x_2"))
FIXED = TensorInfo("x", DataType.FLOAT32, (2, 3))
EXAMPLE = {"x": np.zeros((2, 3, 32), np.float32)}


def choose(info, example, **options):
    return choose_profile([info], example, BuilderConfig(**options)).ranges["x"]


def test_batch_goes_to_64_by_default_and_other_dimensions_stay():
    found = choose(IMAGE, EXAMPLE)
    assert (found.min, found.opt, found.max) == ((1, 3, 32), (2, 3, 32), (64, 3, 32))


def test_an_example_larger_than_the_default_widens_it():
    assert choose(IMAGE, {"x": np.zeros((100, 3, 32))}).max == (100, 3, 32)


def test_options_decide():
    found = choose(IMAGE, EXAMPLE, batch=(1, 4, 8), dynamic={"x": {2: (16, 32, 64)}})
    assert (found.min, found.opt, found.max) == ((1, 3, 16), (4, 3, 32), (8, 3, 64))


@pytest.mark.parametrize(("made_up", "level"), [(True, "WARNING"), (False, "INFO")])
def test_a_size_that_nobody_asked_for_is_warned_of(caplog: pytest.LogCaptureFixture, made_up: bool, level: str) -> None:
    with caplog.at_level("INFO", logger="trine"):
        profile = choose_profile([IMAGE], EXAMPLE, BuilderConfig(), made_up=made_up)
    assert profile.ranges["x"].max == (64, 3, 32)
    (record,) = caplog.records
    assert record.levelname == level
    assert "input 'x' axis 2 (x_2): " in record.getMessage()
    assert "exactly" in record.getMessage()


def test_whole_shapes_decide():
    found = choose(IMAGE, EXAMPLE, shapes={"x": ((1, 3, 32), (2, 3, 32), (3, 3, 48))})
    assert (found.min, found.opt, found.max) == ((1, 3, 32), (2, 3, 32), (3, 3, 48))


def test_two_inputs_share_a_symbol():
    other = TensorInfo("y", DataType.FLOAT32, ("batch",))
    profile = choose_profile([IMAGE, other], {**EXAMPLE, "y": np.zeros(2)}, BuilderConfig(batch=(1, 2, 4)))
    assert profile.ranges["y"].max == (4,)


@pytest.mark.parametrize(
    ("info", "options", "text"),
    [
        (IMAGE, {"dynamic": {"z": {0: (1, 2, 3)}}}, "no input 'z'; it has \\['x'\\]"),
        (IMAGE, {"dynamic": {"x": {1: (1, 2, 3)}}}, "axis 1 is fixed"),
        (FIXED, {"batch": (1, 2, 4)}, "batch is fixed"),
        (FIXED, {"shapes": {"x": ((1, 3), (2, 3), (4, 3))}}, "only its dynamic dimensions"),
    ],
)
def test_refuses_what_the_model_fixes(info, options, text):
    example = {"x": np.zeros([d if isinstance(d, int) else 2 for d in info.shape], np.float32)}
    with pytest.raises(trine.ConfigError, match=text):
        choose(info, example, **options)


def test_a_fixed_batch_may_be_named():
    assert choose(FIXED, {"x": np.zeros((2, 3))}, batch=2).min == (2, 3)


def test_axes_to_open_are_read_off_the_options():
    assert requested_axes(BuilderConfig(dynamic={"x": {2: (1, 2, 3)}})) == {"x": {2: "x_2"}}
    assert requested_axes(BuilderConfig(shapes={"x": ((1, 3, 4), (2, 3, 5), (3, 3, 6))})) == {"x": {2: "x_2"}}
