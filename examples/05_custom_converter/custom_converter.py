"""A converter of your own, as torch2trt's tutorial writes it: what stands in the engine for one PyTorch function.

    python examples/05_custom_converter/custom_converter.py

The network is trained on scikit-learn's 1797 scans of digits. One more converter is for a layer that no library knows.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import trine.compat.tensorrt as trt
from trine.compat.torch2trt import tensorrt_converter, torch2trt


class Swish2(nn.Module):
    """x * sigmoid(2 x): an activation of one's own."""

    def forward(self, x):
        return x * torch.sigmoid(2 * x)


digits = load_digits()
images = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]  # (1797, 1, 8, 8)
labels = torch.from_numpy(digits.target)
train, test = slice(0, 1347), slice(1347, None)

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 32, 3, padding=1),
    Swish2(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(512, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(8):
    for batch in torch.randperm(1347).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[train][batch]), labels[train][batch]).backward()
        optimizer.step()
model.eval()

converted = []


@tensorrt_converter("torch.nn.ReLU.forward")
def convert_ReLU(ctx):  # noqa: N802
    input = ctx.method_args[1]  # noqa: A001
    output = ctx.method_return
    layer = ctx.network.add_activation(input=input._trt, type=trt.ActivationType.RELU)
    output._trt = layer.get_output(0)
    converted.append("ReLU")


@tensorrt_converter("__main__.Swish2.forward")
def convert_swish2(ctx):
    x = ctx.method_args[1]._trt
    two = ctx.network.add_constant((1, 1, 1, 1), np.array([2], np.float32)).get_output(0)
    doubled = ctx.network.add_elementwise(x, two, trt.ElementWiseOperation.PROD).get_output(0)
    gate = ctx.network.add_activation(doubled, trt.ActivationType.SIGMOID).get_output(0)
    layer = ctx.network.add_elementwise(x, gate, trt.ElementWiseOperation.PROD)
    ctx.method_return._trt = layer.get_output(0)
    converted.append("Swish2")


x = images[test]
model_trt = torch2trt(model, [x])
with torch.no_grad():
    y = model(x)
    y_trt = model_trt(x)
print(f"converted by ours     {', '.join(converted)}")
print(f"accuracy, PyTorch     {(y.argmax(1) == labels[test]).float().mean():.4f}")
print(f"accuracy, trine       {(y_trt.argmax(1) == labels[test]).float().mean():.4f}")
print(f"largest difference    {torch.max(torch.abs(y - y_trt)):.1e}")
