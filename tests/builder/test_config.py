import numpy as np
import pytest

import trine
from trine.builder.config import BuilderConfig
from trine.profile import ShapeRange


def test_defaults():
    config = BuilderConfig()
    assert (config.precision, config.device, config.verify, config.batch) == ("fp32", "cpu", True, None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "fp64"}, "precision: 'fp64' is unknown; allowed: fp32, tf32, bf16, fp16, best"),
        ({"device": "tpu"}, "device: 'tpu' is unknown; allowed: cpu"),
        ({"batch": (8, 1, 64)}, "min <= opt <= max"),
        ({"batch": 0}, "1 <= min"),
        ({"batch": "many"}, "an int or \\(min, opt, max\\)"),
        ({"threads": 0}, "threads: expected a whole number from 1"),
        ({"threads": True}, "threads: expected a whole number from 1"),
        ({"tactics": ("tvm",)}, "tactics: 'tvm' is unknown; allowed: openvino, onnxruntime"),
        ({"tactics": ()}, "at least one of"),
        ({"accuracy_budget": -1.0}, "positive relative error"),
        ({"accuracy_budget": float("inf")}, "positive relative error"),
        ({"seed": -1}, "seed"),
        ({"verify": 1}, "verify: expected True or False"),
        ({"timing_cache": 3}, "timing_cache: expected a path"),
        ({"dynamic": {"x": {"two": (1, 2, 3)}}}, "expected axes 0, 1"),
        ({"dynamic": {"x": {2: (3, 2, 1)}}}, "min <= opt <= max"),
        ({"dynamic": {"x": 2}}, "axis: \\(min, opt, max\\)"),
        ({"shapes": {"x": ((1, 2), (1, 2))}}, "three shapes"),
        ({"shapes": {"x": ((1, 2), (1, 2), (1, 2, 3))}}, r"shapes\['x'\]: .*same rank"),
        ({"shapes": {"x": ((1,), (2,), (1,))}}, r"shapes\['x'\]: axis 0: expected 0 <= min"),
        ({"shapes": {"x": ((1, 2),) * 3}, "batch": 2}, "leave out batch and dynamic"),
    ],
)
def test_refuses_with_what_is_allowed(options, text):
    with pytest.raises(trine.ConfigError, match=text):
        BuilderConfig.from_options(**options)


def test_integers_of_numpy_are_integers():
    two = np.int32(2)
    config = BuilderConfig(batch=two, threads=two, seed=two)
    ranged = BuilderConfig(dynamic={"x": {two: (two, two, two)}})
    assert (config, ranged) == (BuilderConfig(batch=2, threads=2, seed=2), BuilderConfig(dynamic={"x": {2: (2, 2, 2)}}))
    assert all(type(number) is int for number in (*config.batch, config.threads, config.seed, *ranged.dynamic["x"]))


def test_unknown_option_names_the_nearest():
    with pytest.raises(trine.ConfigError, match=r"unknown build option 'precison'; did you mean 'precision'\?"):
        BuilderConfig.from_options(precison="fp16")


def test_an_int_batch_is_exactly_that_many_rows():
    assert BuilderConfig(batch=8).batch == (8, 8, 8)


def test_shapes_become_ranges():
    config = BuilderConfig(shapes={"x": ((1, 3), (2, 3), (4, 3))})
    assert config.shapes["x"] == ShapeRange((1, 3), (2, 3), (4, 3))


def test_is_frozen():
    with pytest.raises(AttributeError):
        BuilderConfig().precision = "bf16"
