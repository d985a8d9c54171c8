"""TRTModule: saved and loaded as a state_dict, made from engines of every kind, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import trine
from trine.compat.torch2trt import TRTModule, torch2trt
from trine.errors import ConfigError, EngineFormatError, InputError, UnsupportedError


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def converted(model: nn.Module) -> TRTModule:
    return torch2trt(model, [torch.randn(1, 4)], max_batch_size=8)


def test_a_state_dict_is_saved_and_loaded_under_the_safe_default(
    model: nn.Module, converted: TRTModule, tmp_path: Path
) -> None:
    path = tmp_path / "net.pth"
    torch.save(converted.state_dict(), path)
    loaded = TRTModule()
    loaded.load_state_dict(torch.load(path, weights_only=True))
    x = torch.randn(3, 4)
    assert torch.equal(loaded(x), converted(x))
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-5)
    assert loaded.input_names == converted.input_names
    torch.save(loaded.state_dict(), path)  # again, from what was loaded
    TRTModule().load_state_dict(torch.load(path))


def test_it_is_saved_inside_a_larger_module(converted: TRTModule) -> None:
    outer = nn.Sequential(converted, nn.Linear(3, 2))
    state = outer.state_dict()
    assert state["0.engine"].dtype is torch.uint8
    other = nn.Sequential(TRTModule(), nn.Linear(3, 2))
    other.load_state_dict(state)
    x = torch.randn(2, 4)
    torch.testing.assert_close(other(x), outer(x))


def test_the_structure_of_results_is_saved_too() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"plus": x + 1, "minus": x - 1}

    loaded = TRTModule()
    loaded.load_state_dict(torch2trt(Two(), [torch.zeros(2, 2)]).state_dict())
    got = loaded(torch.ones(2, 2))
    assert {key: value[0, 0].item() for key, value in got.items()} == {"plus": 2, "minus": 0}


def test_an_empty_module_says_so() -> None:
    empty = TRTModule()
    assert not empty.state_dict()
    assert "empty" in repr(empty)
    with pytest.raises(InputError, match="this TRTModule is empty; load_state_dict first"):
        empty(torch.zeros(1))
    with pytest.raises(RuntimeError, match=r"Missing key.*engine"):
        empty.load_state_dict({})
    assert empty.engine is None


def test_damaged_state_dicts_are_refused(converted: TRTModule) -> None:
    state = converted.state_dict()
    damaged = state["engine"].clone()
    damaged[200] ^= 255
    for key, value, text in [
        ("engine", damaged, "checksum|damaged|manifest|header"),
        ("engine", torch.zeros(10), "expected a row of uint8"),
        ("engine", bytearray(b"a plan of TensorRT's"), "TRTModule: "),
        ("engine", 7, "expected a uint8 tensor, got int"),
        ("input_names", ["other"], "input_names: expected each of"),
        ("output_flattener", {"structure": {"kind": "dict"}, "size": 1}, "structure"),
        ("output_flattener", {"structure": {"kind": "tensor", "name": ""}, "size": 2}, "structure"),
        ("input_flattener", [1, 2], "structure"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            TRTModule().load_state_dict({**state, key: value})


def test_engines_of_every_kind(model: nn.Module, converted: TRTModule, tmp_path: Path) -> None:
    path = tmp_path / "net.trine"
    converted.engine.save(path)
    x = torch.randn(2, 4)
    for engine in (trine.load(path), str(path), path, path.read_bytes(), bytearray(path.read_bytes())):
        loaded = TRTModule(engine, ["input_0"], ["output_0"])
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="output_names: expected each of"):
        TRTModule(path, ["input_0"], ["logits"])
    with pytest.raises(ConfigError, match="expected an engine, the path"):
        TRTModule(7)
    with pytest.raises(ConfigError, match="give the engine too"):
        TRTModule(None, ["input_0"])
    with pytest.raises(EngineFormatError):
        TRTModule(b"no engine")


def test_calls_that_do_not_fit(converted: TRTModule) -> None:
    for args, text in [
        ((), "missing|items"),
        ((torch.zeros(1, 4), torch.zeros(1, 4)), "items"),
        ((torch.zeros(1, 5),), "input_0"),
        ((torch.zeros(1, 4, dtype=torch.float64),), "expected float32"),
        ((None,), "expected an array"),
    ]:
        with pytest.raises(InputError, match=text):
            converted(*args)
    flat = TRTModule(converted.engine)
    with pytest.raises(InputError, match="expected 1 inputs"):
        flat(torch.zeros(1, 4), torch.zeros(1, 4))


def test_inputs_need_not_be_contiguous_nor_without_gradients(model: nn.Module, converted: TRTModule) -> None:
    x = torch.randn(4, 6, requires_grad=True)[:, ::2].T.contiguous().T.repeat(1, 2)[:, :4]
    got = converted(x)
    assert not got.requires_grad
    torch.testing.assert_close(got, model(x).detach(), rtol=1e-4, atol=1e-5)


def test_profiling_is_refused(converted: TRTModule) -> None:
    with pytest.raises(UnsupportedError, match="no times of single layers"):
        converted.enable_profiling()
