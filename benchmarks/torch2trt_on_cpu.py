"""A pytest plugin: NVIDIA's torch2trt over trine, on a machine without a GPU, nothing of it changed.

``import tensorrt`` finds trine's, and what PyTorch would do on a GPU is done on the CPU: ``.cuda()`` is the identity,
the device "cuda" is the CPU, and streams are there but have nothing to wait for. Used by torch2trt_suite.py, and
``patch`` by torch2trt_errors.py.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from trine.builder import cpu, timing
from trine.compat import install_as

RESULTS = os.environ.get("TORCH2TRT_RESULTS")
_FACTORIES = ("empty", "zeros", "ones", "full", "rand", "randn", "randint", "arange", "tensor", "linspace", "eye")
_REAL_DEVICE = torch.device


class _Device(type(torch.device)):
    """What torch.device becomes: every device is the CPU, and every device is one of these."""

    def __call__(cls, *args: Any, **kwargs: Any) -> torch.device:
        return _REAL_DEVICE("cpu")

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _REAL_DEVICE)


class _AnyDevice(metaclass=_Device):
    pass


def _on_cpu(function: Any) -> Any:
    def called(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") is not None:
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)

    return called


def _kept(function: Any) -> Any:
    """As PyTorch's allocator on a GPU does, leave alone for a while what is freed: TRTModule passes the address of a
    contiguous copy that nothing holds."""
    recent: collections.deque[torch.Tensor] = collections.deque(maxlen=16)

    def called(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        recent.append(function(self, *args, **kwargs))
        return recent[-1]

    return called


def _moved(function: Any) -> Any:
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") is not None:
            kwargs["device"] = "cpu"
        return function(self, *("cpu" if str(arg).startswith("cuda") else arg for arg in args), **kwargs)

    return called


def pytest_configure(config: pytest.Config) -> None:
    """Before the tests, and torch2trt, are imported."""
    patch()


def patch() -> None:
    """PyTorch without a GPU as if it had one, and trine in TensorRT's place.

    To be called before torch2trt is imported: its converters keep the functions that they find.
    """
    from models import define_missing_operators

    define_missing_operators()
    torch.device = _AnyDevice  # type: ignore[misc, assignment]
    torch.Tensor.contiguous = _kept(torch.Tensor.contiguous)  # type: ignore[method-assign]
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]
    torch.nn.Module.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]
    torch.Tensor.to = _moved(torch.Tensor.to)  # type: ignore[method-assign]
    torch.nn.Module.to = _moved(torch.nn.Module.to)  # type: ignore[method-assign]
    for name in _FACTORIES:
        setattr(torch, name, _on_cpu(getattr(torch, name)))
    stream = types.SimpleNamespace(cuda_stream=0, synchronize=lambda: None)
    torch.cuda.current_stream = lambda *args: stream  # type: ignore[assignment, return-value]
    torch.cuda.synchronize = lambda *args: None  # type: ignore[assignment]
    _random_backbones()
    install_as("tensorrt")
    # Both backends are compiled, run and verified; which one is a little faster is not what these tests are about.
    cpu.time_interleaved = functools.partial(timing.time_interleaved, seconds=0.05, seconds_if_close=0.05)


def _random_backbones() -> None:
    """Segmentation networks fetch pretrained backbones unless told not to; random ones need no network connection."""
    import torchvision

    def random_weights(weights: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        name = type(weights).__name__.removesuffix("_Weights").lower()
        state: dict[str, Any] = torchvision.models.get_model(name, weights=None).state_dict()
        for key in state:
            if key.endswith("bn3.weight"):  # what a block adds: else values grow from block to block to thousands
                state[key].fill_(0.2)
        return state

    torchvision.models._api.WeightsEnum.get_state_dict = random_weights


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What an earlier run has results of is not run again. How many tests there are is left beside the results."""
    if RESULTS:
        Path(RESULTS).with_suffix(".collected").write_text(str(len(items)))
    if RESULTS and Path(RESULTS).exists():
        done = {json.loads(line)["test"] for line in Path(RESULTS).read_text().splitlines()}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
        items[:] = [item for item in items if item.nodeid not in done]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """One line of JSON for each test, as soon as it is known."""
    report = yield
    if RESULTS and (report.when == "call" or not report.passed):
        error = "" if call.excinfo is None else f"{call.excinfo.typename}: {call.excinfo.value}"
        line = {
            "test": item.nodeid,
            "outcome": report.outcome,
            "seconds": round(report.duration, 2),
            "error": error[:600],
        }
        with Path(RESULTS).open("a") as file:
            file.write(json.dumps(line) + "\n")
    return report
