"""Programs of models: executed, they make a network with the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from network_runs import answers, finish, start
from torch import nn

from trine.errors import ConfigError, UnsupportedError
from trine.importers import import_model
from trine.network import Network, to_python

RNG = np.random.default_rng(0)


def made_by(path: Path) -> Network:
    """What the program's ``make`` returns."""
    scope: dict[str, Any] = {"__file__": str(path), "__name__": "program"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), scope)
    network = scope["make"]()
    assert isinstance(network, Network)
    return network


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3, groups=4),
            nn.GELU(), nn.MaxPool2d(2, ceil_mode=True), nn.ConvTranspose2d(8, 4, 2), nn.Hardswish(),
        )  # fmt: skip
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.body(image).mean((2, 3))
        return self.head(self.norm(x)).softmax(-1)


def test_a_model_from_pytorch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Small().eval()
    imported = import_model(model, torch.rand(2, 3, 16, 16))
    text = to_python(imported, tmp_path / "small.py")
    assert (tmp_path / "small.npz").exists()
    for call in ("add_convolution_nd", "layer.num_groups = 4", "add_pooling_nd", "add_deconvolution_nd", "GELU_ERF"):
        assert call in text
    network = made_by(tmp_path / "small.py")
    image = RNG.random((3, 3, 16, 16), np.float32)
    with torch.no_grad():
        want = model(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(answers(network, {"image": image})[0], want, rtol=1e-4, atol=1e-5)


def test_a_network_written_by_hand(tmp_path: Path) -> None:
    array = RNG.standard_normal((2, 4, 6)).astype(np.float32)
    network, (x,) = start(x=array)
    values = network.add_topk(x, "MAX", 2, 1 << 2)
    finish(network, values)
    big = network.add_constant(RNG.standard_normal((4, 6)).astype(np.float32)).get_output(0)
    half = network.add_cast(big, "bfloat16").get_output(0)
    joined = network.add_concatenation([x, network.add_elementwise(x, big, "SUM").get_output(0)])
    joined.axis = 1
    shuffle = network.add_shuffle(joined.get_output(0))
    shuffle.first_transpose, shuffle.reshape_dims = (1, 0, 2), (0, -1)
    finish(network, network.add_softmax(shuffle.get_output(0)))
    finish(network, network.add_cast(half, "float32"))
    network.to_python(tmp_path / "hand.py")
    again = made_by(tmp_path / "hand.py")
    for got, want in zip(answers(again, {"x": array}), answers(network, {"x": array}), strict=True):
        np.testing.assert_array_equal(got, want)
    assert [tensor.name for tensor in again.outputs] == [tensor.name for tensor in network.outputs]


def test_an_onnx_file_with_what_has_no_layer_of_its_own(tmp_path: Path) -> None:
    """Optional inputs, several outputs, attributes that are tensors, and weights of narrow types."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]>
        odd (float[n, 4] x) => (float[n, 2] low, float[n, 4] y)
        {
            low, high = Split <axis = 1, num_outputs = 2> (x)
            top = Constant <value_float = 0.5> ()
            clipped = Clip (x, , top)
            size = Shape (x)
            filled = ConstantOfShape <value = float[1] {2.0}> (size)
            sum = Add (clipped, filled)
            wide = Cast <to = 1> (narrow)
            y = Add (sum, wide)
        }"""
    )
    narrow = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)[:1].repeat(3, 1)
    model.graph.initializer.append(
        onnx.helper.make_tensor(
            "narrow", onnx.TensorProto.BFLOAT16, (3, 4), narrow.view(torch.int16).numpy().tobytes(), raw=True
        )
    )
    text = to_python(model.SerializeToString(), tmp_path / "odd.py", example_inputs=np.zeros((3, 4), np.float32))
    assert "BFLOAT16" in text
    array = RNG.standard_normal((3, 4)).astype(np.float32)
    low, y = answers(made_by(tmp_path / "odd.py"), {"x": array})
    np.testing.assert_array_equal(low, array[:, :2])
    np.testing.assert_allclose(y, np.minimum(array, 0.5) + 2 + np.arange(4), rtol=1e-6)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    flag = np.array(True)
    network, (x, condition) = start(x=np.zeros(2, np.float32), condition=flag)
    conditional = network.add_if_conditional()
    conditional.set_condition(condition)
    finish(network, conditional.add_output(x, x))
    with pytest.raises(UnsupportedError, match=r"node 'conditional_1' \(If\) has a graph inside"):
        network.to_python()
    other, (y,) = start(x=flag)
    finish(other, other.add_identity(y))
    with pytest.raises(ConfigError, match=r"let it end in \.py"):
        other.to_python(tmp_path / "program.txt")
