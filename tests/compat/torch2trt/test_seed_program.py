"""The torch2trt part of the tutorial that trine grew from, from its first line to its last, as it is.

Its pretrained weights, which would have to be fetched, are random ones in torchvision's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision_shim  # noqa: F401  # before torchvision
from torchvision.models import AlexNet_Weights, alexnet

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import torchvision_shim

import torch
from torch2trt import torch2trt
from torchvision.models.alexnet import alexnet

# create some regular pytorch model...
model = alexnet(pretrained=True).eval().cuda()

# create example data
x = torch.ones((1, 3, 224, 224)).cuda()

# convert to TensorRT feeding sample data as input
model_trt = torch2trt(model, [x])

y = model(x)
y_trt = model_trt(x)

# check the output against PyTorch
print(torch.max(torch.abs(y - y_trt)))

torch.save(model_trt.state_dict(), 'alexnet_trt.pth')

from torch2trt import TRTModule

model_trt = TRTModule()
model_trt.load_state_dict(torch.load('alexnet_trt.pth'))

import tensorrt as trt
from torch2trt import tensorrt_converter

@tensorrt_converter('torch.nn.ReLU.forward')
def convert_ReLU(ctx):
    input = ctx.method_args[1]
    output = ctx.method_return
    layer = ctx.network.add_activation(input=input._trt, type=trt.ActivationType.RELU)
    output._trt = layer.get_output(0)

# Not in the tutorial: what was loaded, and what the converter wrote, are right.
print(torch.max(torch.abs(y - model_trt(x))))
print(torch.max(torch.abs(y - torch2trt(model, [x])(x))))
"""


@pytest.mark.slow
def test_the_tutorial_s_torch2trt_part_runs(tmp_path: Path) -> None:
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(alexnet().state_dict(), checkpoints / AlexNet_Weights.DEFAULT.url.rpartition("/")[2])
    (tmp_path / "program.py").write_text(PROGRAM)
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-m", "trine.compat.run", "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "TORCH_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    differences = [float(line.partition("(")[2].partition(",")[0].rstrip(")")) for line in done.stdout.splitlines()]
    assert len(differences) == 3
    assert all(0 <= difference < 1e-5 for difference in differences), done.stdout
