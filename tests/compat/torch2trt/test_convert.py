"""torch2trt against eager: the ops that torch2trt itself freezes, shapes, names, options, refusals."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import trine.compat.tensorrt as trt
from trine.compat.torch2trt import ListDataset, TensorBatchDataset, TRTModule, torch2trt
from trine.errors import ConfigError, InputError, ModelImportError, UnsupportedError


class Applied(nn.Module):
    """A convolution and then ``function``: whether the result depends on the input shows at once."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.conv(x))


# What torch2trt 0.5 turns into constants without a word, or did at some time.
FROZEN_BY_TORCH2TRT = {
    "ReLU6": nn.ReLU6(),
    "Hardswish": nn.Hardswish(),
    "Mish": nn.Mish(),
    "Hardtanh": nn.Hardtanh(-1, 2),
    "PixelShuffle": nn.PixelShuffle(2),
    "rsqrt": lambda x: x.abs().add(1).rsqrt(),
    "var": lambda x: x.var((2, 3)),
    "topk": lambda x: tuple(x.flatten(1).topk(3)),
    "argmax": lambda x: x.argmax(1),
    "einsum": lambda x: torch.einsum("nchw,ndhw->ncd", x, x),
    "layer_norm": lambda x: nn.functional.layer_norm(x, x.shape[1:]),
    "size": lambda x: x.view(x.size(0), -1, x.size(3)) * x.size(1),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", FROZEN_BY_TORCH2TRT)
def test_nothing_is_frozen(name: str) -> None:
    model = Applied(FROZEN_BY_TORCH2TRT[name])
    x = torch.randn(1, 3, 8, 8)
    converted = torch2trt(model, [x])
    for other in (x, torch.randn(1, 3, 8, 8), -3 * x):
        got, want = converted(other), model(other)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert not torch.equal(torch.as_tensor(_first(model(x))), torch.as_tensor(_first(model(-3 * x))))


def _first(value: Any) -> torch.Tensor:
    return value[0] if isinstance(value, tuple) else value


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def test_the_seed_s_conversion() -> None:
    model = small()
    assert model.training
    x = torch.ones((1, 3, 8, 8))
    model_trt = torch2trt(model, [x])
    assert model.training  # it comes back as it was
    model.eval()
    with torch.no_grad():
        y, y_trt = model(x), model_trt(x)
    assert torch.max(torch.abs(y - y_trt)) < 1e-5
    assert isinstance(model_trt, nn.Module)
    assert model_trt.input_names == ["input_0"]
    assert model_trt.output_names == ["output_0"]
    assert [info.name for info in model_trt.engine.inputs] == ["input_0"]
    assert "Sequential" in model_trt.engine.manifest.source
    assert "Engine" in repr(model_trt)
    assert not list(model_trt.parameters())


def test_shapes_are_the_example_s_unless_told_otherwise() -> None:
    model = small().eval()
    x = torch.randn(2, 3, 8, 8)
    fixed = torch2trt(model, [x])
    with pytest.raises(InputError, match="input_0"):
        fixed(x[:1])
    batched = torch2trt(model, [x[:1]], max_batch_size=4)
    for rows in (1, 4):
        other = torch.randn(rows, 3, 8, 8)
        torch.testing.assert_close(batched(other), model(other), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="input_0"):
        batched(torch.randn(5, 3, 8, 8))


def test_ranges_of_other_dimensions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)).eval()
    x = torch.randn(1, 3, 16, 16)
    converted = torch2trt(
        model,
        [x],
        min_shapes=[(1, 3, 8, 8)],
        opt_shapes=[(1, 3, 16, 16)],
        max_shapes=[(2, 3, 32, 32)],
    )
    for shape in ((1, 3, 8, 8), (2, 3, 32, 20)):
        other = torch.randn(shape)
        torch.testing.assert_close(converted(other), model(other), rtol=1e-4, atol=1e-5)
    for wrong in ([(1, 3, 8, 8)] * 2, []):
        with pytest.raises(ConfigError, match="min_shapes: expected 1 shapes"):
            torch2trt(model, [x], min_shapes=wrong)


def test_datasets_say_the_shapes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2)).eval()
    dataset = ListDataset()
    with dataset.record(model):
        model(torch.randn(1, 3, 8, 8))
        model(torch.randn(1, 3, 12, 8))
        model(torch.randn(3, 3, 10, 8))
    assert len(dataset) == 3
    assert dataset.infer_dynamic_axes(flat=True) == [[0, 2]]
    converted = torch2trt(model, dataset)
    other = torch.randn(2, 3, 11, 8)
    torch.testing.assert_close(converted(other), model(other), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError):
        converted(torch.randn(1, 3, 13, 8))
    rows = TensorBatchDataset([torch.arange(6.0).reshape(3, 2)])
    rows.insert([torch.zeros(2, 2)])
    assert len(rows) == 5
    assert rows[1][0].tolist() == [[2, 3]]
    with pytest.raises(ConfigError, match="the dataset is empty"):
        ListDataset().num_inputs()


class Pair(NamedTuple):
    total: torch.Tensor
    parts: list[torch.Tensor]


class Nested(nn.Module):
    def forward(self, first: torch.Tensor, rest: dict[str, Any], scale: float) -> Any:
        b, (c, _) = rest["b"], rest["a"]
        return {"sum": Pair(first + b, [c * scale, c - b]), "first": first * 2}


def test_nested_inputs_and_outputs_keep_their_structure() -> None:
    x = [torch.randn(2, 3), {"b": torch.randn(2, 3), "a": (torch.randn(2, 3), None)}, 2.0]
    model = Nested().eval()
    converted = torch2trt(model, x, input_names=["x", "c", "b"], output_names=["twice", "total", "scaled", "less"])
    got, want = converted(*x), model(*x)
    assert set(got) == {"sum", "first"}
    torch.testing.assert_close(got["first"], want["first"])
    torch.testing.assert_close(got["sum"].total, want["sum"].total)
    torch.testing.assert_close(got["sum"].parts, want["sum"].parts)
    # Dicts are taken in the order of their keys, as torch2trt does: "first" comes before "sum", "a" before "b".
    context = converted.context.execute({"x": x[0], "c": x[1]["a"][0], "b": x[1]["b"]})
    torch.testing.assert_close(context["twice"], want["first"])
    torch.testing.assert_close(context["scaled"], want["sum"].parts[0])
    with pytest.raises(InputError, match="inputs"):
        converted(x[0], x[1])
    with pytest.raises(InputError, match=r"built with 2\.0"):
        converted(x[0], x[1], 3.0)


@pytest.mark.parametrize("names", [["a", "b"], ["a", "a"], []])
def test_names_must_fit(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="input_names: expected 1 different names"):
        torch2trt(small(), [torch.randn(1, 3, 8, 8)], input_names=names)


def test_fp16_is_what_the_cpu_has(caplog: pytest.LogCaptureFixture) -> None:
    from trine.backends.cpu.tactics import CPU_TACTICS

    model, x = small().eval(), torch.randn(1, 3, 8, 8)
    able = any(tactic.supports("fp16") for tactic in CPU_TACTICS)
    with caplog.at_level(logging.WARNING, "trine"):
        converted = torch2trt(model, [x], fp16_mode=True)
    assert converted.engine.manifest.precision == ("fp16" if able else "fp32")
    assert ("fp16_mode: building in fp32 instead" in caplog.text) is not able
    torch.testing.assert_close(converted(x), model(x), rtol=2e-2, atol=1e-2)
    if not able:
        with pytest.raises(ConfigError, match="cannot be had on this machine"):
            torch2trt(model, [x], fp16_mode=True, strict_type_constraints=True)


def test_half_modules_keep_their_types() -> None:
    model = nn.Conv2d(3, 3, 1).eval().half()
    x = torch.randn((1, 3, 8, 8)).half()
    converted = torch2trt(model, [x])
    assert converted(x).dtype is torch.float16
    torch.testing.assert_close(converted(x), model(x), rtol=1e-2, atol=1e-2)


class Seen:
    """A dataset that counts what was asked of it."""

    def __init__(self, items: list[torch.Tensor]) -> None:
        self.items, self.asked = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        self.asked += 1
        return [self.items[index]]


# Entropy clips the rare large values, of which noise has more than pictures' features.
@pytest.mark.parametrize(("algorithm", "most"), [(None, 0.3), (trt.CalibrationAlgoType.MINMAX_CALIBRATION, 0.05)])
def test_int8_is_calibrated_on_the_dataset(algorithm: Any, most: float, caplog: pytest.LogCaptureFixture) -> None:
    model = small().eval()
    torch.manual_seed(1)
    dataset = Seen([torch.randn(3, 8, 8) for _ in range(100)])  # items without a batch dimension
    x = torch.randn(2, 3, 8, 8)
    with caplog.at_level(logging.INFO, "trine"):
        converted = torch2trt(
            model, [x], int8_mode=True, int8_calib_dataset=dataset, int8_calib_algorithm=algorithm, max_batch_size=4
        )
    assert dataset.asked >= 100
    got, want = converted(x), model(x).detach()
    error = float((got - want).abs().max() / want.abs().max())
    assert 1e-4 < error < most, "as far from fp32 as eight bits are, and not nearer"
    assert "int8_mode: relative error" in caplog.text


def test_int8_scales_follow_the_dataset() -> None:
    model, x = small().eval(), torch.randn(1, 3, 8, 8)
    near = torch2trt(model, [x], int8_mode=True, int8_calib_algorithm="MINMAX_CALIBRATION")(x)
    loud = {"int8_calib_dataset": Seen([100 * x]), "int8_calib_algorithm": "MINMAX_CALIBRATION"}
    far = torch2trt(model, [x], int8_mode=True, **loud)(x)
    assert (far - model(x)).abs().max() > 5 * (near - model(x)).abs().max()


def test_int8_faults_are_named() -> None:
    x = torch.randn(1, 3, 8, 8)
    with pytest.raises(ConfigError, match="int8_calib_dataset is empty"):
        torch2trt(small(), [x], int8_mode=True, int8_calib_dataset=Seen([]))
    with pytest.raises(ConfigError, match="'BEST' is unknown; allowed: LEGACY_CALIBRATION"):
        torch2trt(small(), [x], int8_mode=True, int8_calib_algorithm="BEST")
    with pytest.raises(InputError, match=r"int8_calib_dataset\[0\], input_0: expected the rank of \(1, 3, 8, 8\)"):
        torch2trt(small(), [x], int8_mode=True, int8_calib_dataset=Seen([torch.randn(8)]))
    with pytest.raises(UnsupportedError, match=r"qat_mode=True.*fake quantisation"):
        torch2trt(small(), [x], qat_mode=True)


def test_misspelt_options_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown option 'fp16_mod'; did you mean 'fp16_mode'"):
        torch2trt(small(), [torch.randn(1, 3, 8, 8)], fp16_mod=True)


def test_log_level_is_for_the_conversion_only() -> None:
    was = logging.getLogger("trine").level
    torch2trt(nn.ReLU(), [torch.randn(1, 3)], log_level=1, use_onnx=True, max_workspace_size=1 << 30)
    assert logging.getLogger("trine").level == was
    with pytest.raises(ConfigError, match="log_level"):
        torch2trt(nn.ReLU(), [torch.randn(1, 3)], log_level=9)


def test_modules_that_cannot_be_imported_say_why() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(ModelImportError, match=r"test_convert\.py"):
        torch2trt(Branches(), [torch.ones(2, 3)])
    with pytest.raises(ModelImportError, match=r"expected a torch\.nn\.Module"):
        torch2trt(torch.relu, [torch.ones(2, 3)])  # type: ignore[arg-type]


def test_a_converted_part_of_a_larger_module() -> None:
    model = nn.Sequential(small(), nn.Softmax(-1)).eval()
    x = torch.randn(1, 3, 8, 8)
    want = model(x)
    model[0] = torch2trt(model[0], [x])
    assert isinstance(model[0], TRTModule)
    torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-5)
