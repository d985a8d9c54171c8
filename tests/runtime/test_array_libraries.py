"""Outputs of PyTorch's and CuPy's kind: on which stream they are made, and what happens when there is no memory."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runtime.cuda.recording_driver import RecordingDriver
from runtime.cuda.sample_plans import STAND_INS, WIDTH, answer, context_on, rows_of
from runtime.stand_in_libraries import Cupy, Torch

from trine.errors import DeviceMemoryError
from trine.runtime.array_libraries import current_stream


@pytest.fixture
def driver():
    return RecordingDriver(STAND_INS)


@pytest.fixture
def context(driver):
    return context_on(driver)


@pytest.fixture(params=["torch", "cupy"])
def library(request, driver, monkeypatch):
    """With ``give``, which makes an array of its kind, and ``numbers``, what is in one."""
    if request.param == "torch":
        made = Torch(driver, monkeypatch)
        made.give, made.numbers = made.tensor, lambda tensor: tensor.as_subclass(torch.Tensor).numpy()
    else:
        made = Cupy(driver, monkeypatch)
        made.give, made.numbers = made.array, lambda array: array.memory
    return made


def test_outputs_are_made_on_the_current_stream(driver, context, library):
    library.stream = 7
    x = library.give(rows_of(2))
    answers = context.execute({"x": x})
    assert type(answers["y"]) is type(x)
    np.testing.assert_array_equal(library.numbers(answers["y"]), answer(rows_of(2)))
    assert library.made[1:] == [((2, WIDTH), 7)]
    assert ("launch", 7) in driver.calls
    assert driver.count("synchronize") == 1, "the weights' only: the library's stream orders what follows"


@pytest.mark.parametrize(("stream", "handle"), [(77, 77), (0, 0), (1, 0)])
def test_outputs_are_made_on_the_stream_that_is_given(driver, context, library, stream, handle):
    """Their allocator would else give memory that work on the current stream still uses."""
    library.stream = 7
    answers = context.execute_async({"x": library.give(rows_of(2))}, stream=stream)
    assert library.made[1:] == [((2, WIDTH), handle)]
    assert library.stream == 7, "as it was before"
    assert ("launch", handle) in driver.calls
    np.testing.assert_array_equal(library.numbers(answers["y"]), answer(rows_of(2)))


def test_a_plain_array_that_names_a_stream_does_not_draw_the_work_away(driver, context, library):
    """What the library does next with the answer is ordered by its own stream."""
    library.stream = 7
    plain = SimpleNamespace(__cuda_array_interface__={"stream": 78})
    assert current_stream({"a": plain, "b": library.give(rows_of(2))}, None) == 7
    assert current_stream({"a": plain, "b": rows_of(2), "c": torch.zeros(2)}, None) == 78


def test_a_library_without_memory_for_the_outputs(driver, context, library):
    x = library.give(rows_of(2))
    library.room = False
    with pytest.raises(
        DeviceMemoryError,
        match=r"output 'y': (PyTorch|CuPy) has no memory for \(2, 3\) of float32: .*ut of memory.*; free arrays.* then "
        r"(torch\.cuda\.empty_cache\(\)|cupy.*free_all_blocks\(\)), or give memory with out=",
    ) as caught:
        context.execute({"x": x})
    assert "\n" not in str(caught.value)
    assert not driver.count("launch")
    library.room = True
    np.testing.assert_array_equal(library.numbers(context.execute({"x": x})["y"]), answer(rows_of(2)))
