"""device="tensorrt", with the real builder of TensorRT for RTX: both plans in one file, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from backends.tensorrt.packages_here import tensorrt_or_skip
from new_process import in_new_process
from torch import nn

import trine
from trine.engine.inspector import inspect_engine
from trine.errors import ConfigError, NoDeviceError, UnsupportedError

PACKAGE = tensorrt_or_skip()


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(392, 5))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tensorrt") / "net.trine"
    engine = trine.build(small(), (torch.randn(1, 3, 16, 16),), batch=(1, 2, 4), device="tensorrt", precision="fp16")
    engine.save(path)
    return path


def test_both_plans_are_in_the_file(saved: Path) -> None:
    engine = trine.load(saved)
    assert engine.plans.keys() == {"cpu", "tensorrt"}
    assert engine.device == "cpu"
    data = inspect_engine(engine)
    json.dumps(data)
    (plan,) = data["tensorrt"]
    assert (plan["package"], plan["precision"], plan["target"]) == ("tensorrt_rtx", "fp16", "")
    assert len(plan["layers"]) > 2
    built = next(tactic for tactic in data["tactics"] if tactic["name"] == "tensorrt_rtx")
    assert built["built_only"]
    assert not built["chosen"]
    assert built["reasons"][0].startswith("built, not run: ")
    assert "was built, not run" in data["evidence"]["notes"][-1]


def test_the_plan_for_cpus_answers(saved: Path) -> None:
    x = torch.randn(3, 3, 16, 16)
    np.testing.assert_allclose(trine.load(saved)(x.numpy()), small().eval()(x).detach().numpy(), atol=1e-5)


def test_is_loaded_where_tensorrt_is_not(saved: Path) -> None:
    said = in_new_process(
        "import sys, numpy, trine\n"
        f"engine = trine.load({str(saved)!r})\n"
        "engine(numpy.zeros((2, 3, 16, 16), numpy.float32))\n"
        "print([name for name in sys.modules if name.startswith(('tensorrt', 'torch', 'onnx.'))])"
    )
    assert said == "[]"


def test_asked_for_without_a_gpu_says_so(saved: Path) -> None:
    with pytest.raises(NoDeviceError, match=r"NVIDIA driver|compute capability|does not take the plan"):
        trine.load(saved, device="tensorrt")


def test_best_is_refused() -> None:
    with pytest.raises(ConfigError, match="name one: fp32, tf32, bf16 or fp16"):
        trine.build(small(), (torch.randn(1, 3, 16, 16),), device="tensorrt", precision="best")


@pytest.mark.parametrize("target", ["sm_90", "gpu"])
def test_a_target_that_it_does_not_build_for(target: str) -> None:
    with pytest.raises(ConfigError, match=r"target: .*sm_86"):
        trine.build(small(), (torch.randn(1, 3, 16, 16),), device="tensorrt", precision="fp16", target=target)


class Refused(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.det(torch.relu(x))


def test_an_operator_that_it_refuses_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"tensorrt_rtx 1\.[\d.]+ refuses the graph:\n  Det .*UNSUPPORTED_NODE"):
        trine.build(Refused(), (torch.randn(2, 3, 3),), device="tensorrt")
