"""Networks of torchvision, imported and optimised as the builder does, lowered, and run in NumPy beside ONNX Runtime.

The small ones have few blocks of every kind that the large ones have; those are marked slow.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision_shim
from backends.cuda.lowered import answers, error, kinds
from backends.cuda.placed import first_scratch, run_apart_and_placed
from torch import nn

from trine.backends.cuda import reference
from trine.backends.cuda.fusion import normal
from trine.backends.cuda.groups import Attention, Conv, ConvGemm, Gemm, Group, View
from trine.backends.cuda.lowering import lower
from trine.backends.cuda.memory_plan import plan_memory
from trine.backends.cuda.reference import Memory, run_group
from trine.backends.cuda.target import TARGETS
from trine.builder.freeze import freeze, tensor_infos
from trine.engine.manifest import TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.importers import import_model
from trine.passes.pipeline import run_passes
from trine.verify.tolerances import budget_for

torchvision_shim.define_missing_operators()
from torchvision import models  # noqa: E402
from torchvision.models import convnext, densenet, efficientnet, mobilenetv3, resnet, swin_transformer  # noqa: E402

Infos = tuple[TensorInfo, ...]
ROWS = 2
HAS_TRITON = find_spec("triton") is not None


def small_efficientnet() -> nn.Module:
    setting = [
        efficientnet.MBConvConfig(1, 3, 1, 16, 8, 1, 1.0, 1.0),
        efficientnet.MBConvConfig(6, 5, 2, 8, 16, 2, 1.0, 1.0),
        efficientnet.FusedMBConvConfig(4, 3, 2, 16, 24, 1),
    ]
    return models.EfficientNet(setting, dropout=0.2, last_channel=64, num_classes=20)


def small_mobilenet() -> nn.Module:
    config = mobilenetv3.InvertedResidualConfig
    setting = [
        config(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        config(16, 3, 64, 24, False, "RE", 2, 1, 1.0),
        config(24, 5, 96, 24, True, "HS", 1, 1, 1.0),
    ]
    return models.MobileNetV3(setting, last_channel=64, num_classes=20)


def small_convnext() -> nn.Module:
    setting = [convnext.CNBlockConfig(16, 32, 1), convnext.CNBlockConfig(32, None, 2)]
    return models.ConvNeXt(setting, layer_scale=0.5, num_classes=20)


def small_swin() -> nn.Module:
    return models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=20)


def small_swin_v2() -> nn.Module:
    return models.SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=20,
        block=swin_transformer.SwinTransformerBlockV2, downsample_layer=swin_transformer.PatchMergingV2,
    )  # fmt: skip


def small_vit() -> nn.Module:
    made = models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=20)
    nn.init.normal_(made.heads.head.weight, std=0.2)  # torchvision's is zero, and so would all answers be
    return made


def small_plain() -> nn.Module:
    """Convolutions one after another, wide enough for every kernel that takes them."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(64, 32, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 20),
    )  # fmt: skip


SMALL: dict[str, tuple[Callable[[], nn.Module], int, dict[str, int]]] = {
    "resnet": (
        lambda: models.ResNet(resnet.Bottleneck, [1, 1, 1, 1], num_classes=20),
        64,
        {"Conv or Gemm": 18, "Pool": 1, "Reduce": 1},
    ),
    "densenet": (
        lambda: densenet.DenseNet(8, (2, 2), 16, num_classes=20),
        64,
        {"Conv or Gemm": 11, "Pool": 2, "Pointwise": 1, "Reduce": 1},
    ),
    "efficientnet": (
        small_efficientnet,
        64,
        {"Conv or Gemm": 10, "DepthwiseConv": 3, "SqueezeExcite": 3, "Reduce": 1},
    ),
    "mobilenet": (small_mobilenet, 64, {"Conv or Gemm": 9, "DepthwiseConv": 3, "SqueezeExcite": 2, "Reduce": 1}),
    "convnext": (small_convnext, 64, {"Conv or Gemm": 9, "DepthwiseConv": 3, "LayerNorm": 6, "Reduce": 1}),
    "swin": (small_swin, 64, {}),
    "swin v2": (small_swin_v2, 64, {}),
    "plain": (small_plain, 16, {"Conv or Gemm": 5, "Pool": 1, "Reduce": 1}),
    "vit": (small_vit, 32, {"Conv or Gemm": 10, "Pointwise": 2, "LayerNorm": 5, "Attention": 2}),
}
LARGE = [
    "resnet18",
    "resnet50",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "densenet121",
    "swin_t",
    "convnext_tiny",
    "alexnet",
    "squeezenet1_1",
    "googlenet",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "vgg11",
    "regnet_y_400mf",
    "maxvit_t",
    "swin_v2_t",
]


def calibrated(module: nn.Module, x: torch.Tensor) -> nn.Module:
    """Statistics of batch normalisation as a trained network has them: activations neither vanish nor explode."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    for each in norms:
        each.momentum = 1.0
        each.train()
    with torch.no_grad():
        module(x)
    return module.eval()


def with_cut_operands(module: nn.Module) -> nn.Module:
    """A copy, the operands of whose products are cut to tf32's ten bits, as Hopper's tensor cores do."""

    def cut(numbers: torch.Tensor) -> torch.Tensor:
        return (numbers.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)

    made = copy.deepcopy(module)
    for part in made.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.weight.data = cut(part.weight.data)
            part.register_forward_pre_hook(lambda _, given: (cut(given[0]), *given[1:]))
    return made


@contextlib.contextmanager
def products_of_cut_operands() -> Iterator[None]:
    """While this lasts, the reference device does so too, in groups whose kernels can use tensor cores."""
    read, operands = (
        Memory.read,
        {Conv: ("x", "w"), ConvGemm: ("x", "w", "b"), Gemm: ("a", "b"), Attention: tuple("qkv")},
    )
    cut_now: list[View] = []

    def run(group: Group, memory: Memory) -> None:
        cut_now[:] = [getattr(group, name) for name in operands.get(type(group), ())]
        run_group(group, memory)

    def cutting(memory: Memory, view: View) -> np.ndarray:
        array = read(memory, view)
        if view.dtype == "fp32" and any(view is each for each in cut_now):
            return (array.view(np.int32) & ~0x1FFF).view(np.float32)
        return array

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "run_group", run)
        patch.setattr(Memory, "read", cutting)
        yield


@cache
def prepared(name: str) -> tuple[PortableGraph, Infos, Infos, np.ndarray, np.ndarray, dict[str, float]]:
    """The graph, its edges, one input and ONNX Runtime's answer, and PyTorch's own errors in fp16 and tf32."""
    torch.manual_seed(0)
    if name in SMALL:
        make, size, _ = SMALL[name]
        module = make().eval()
    else:
        size = 224 if name == "maxvit_t" else 64
        extra = {"init_weights": False} if name == "googlenet" else {}
        module = models.get_model(name, weights=None, **extra).eval()
    x = torch.randn(ROWS, 3, size, size)
    module = calibrated(module, torch.randn(16, 3, size, size))
    with torch.no_grad():
        whole = module(x)
        answers_in = {"fp16": copy.deepcopy(module).half()(x.half()).float(), "tf32": with_cut_operands(module)(x)}
    narrowed = {name: float((each - whole).abs().max() / whole.abs().max()) for name, each in answers_in.items()}
    imported = import_model(module, (x,), batch="dynamic")
    run_passes(imported.model)
    inputs, outputs = tensor_infos(imported.model)
    graph = freeze(imported.model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.inline(), options, providers=["CPUExecutionProvider"])
    return graph, inputs, outputs, x.numpy(), session.run(None, {inputs[0].name: x.numpy()})[0], narrowed


def check(name: str, precision: str) -> dict[str, int]:
    graph, inputs, outputs, x, want, narrowed = prepared(name)
    low = lower(graph, ROWS, inputs, outputs, precision)
    plan = plan_memory(low.groups)
    assert plan.arena_bytes <= 1.3 * plan.live_bytes
    if precision == "tf32":
        with products_of_cut_operands():
            (got,) = answers(low, [x])
    else:
        (got,) = answers(low, [x])
        # Also where the plan of an engine for Hopper puts everything, scratch memory of kernels included.
        scratch = first_scratch(low.groups, TARGETS["sm_90"]) if HAS_TRITON else []
        (placed,) = run_apart_and_placed(low, [x], scratch)
        assert placed.tobytes() == got.tobytes()
    # Networks that were never trained pass errors on more than the budgets count on: PyTorch's own show how much.
    allowed = max(budget_for(precision), 1.5 * narrowed.get(precision, 0.0))
    assert np.abs(want - want[:1]).max() > 0.01 * np.abs(want).max(), "the same answer to everything proves nothing"
    assert error(got, want) <= allowed
    assert precision != "tf32" or error(got, want) > budget_for("fp32"), "no operand was cut"
    found = kinds(low)
    # A convolution whose window is its stride, or a pixel, may be a product of matrices instead.
    found["Conv or Gemm"] = found.pop("Conv", 0) + found.pop("Gemm", 0)
    return found


def check_plan(name: str, precision: str) -> None:
    """The plan of an engine for up to five rows: its records, its offsets, and what waits for what, on a driver that
    takes any order that this allows. Each kernel is its group's meaning."""
    from backends.cuda.played import Played

    graph, inputs, outputs, x, _, narrowed = prepared(name)
    allowed = max(budget_for(precision), 1.5 * narrowed.get(precision, 0.0))
    played = Played((graph, inputs, outputs), (2, 5), precision)
    for rows in (1, 2, 3, 4, 5, 7):  # seven are five and two
        given = np.random.default_rng(rows).standard_normal((rows, *x.shape[1:])).astype(np.float32)
        (got,), (want,) = played.answers(given), played.wanted(given)
        assert error(got, want) <= allowed, f"{rows} rows"
    played.close()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_small_networks(name: str, precision: str) -> None:
    """All of it in one test: preparing a network takes longer than what is done with it."""
    found = check(name, precision)
    wanted = SMALL[name][2]
    assert found == wanted or not wanted
    if HAS_TRITON and precision != "tf32":  # whose groups are those of fp32
        check_plan(name, precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(("name", "products"), [("vit", 5), ("convnext", 4)])
def test_products_that_normalise_their_sums(
    name: str, products: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with large batches, see fuse_normal. What stays: norms whose pixels are then convolved or averaged."""
    monkeypatch.setattr(normal, "LEAST_BYTES", 0)
    monkeypatch.setattr(normal, "LEAST_PRODUCTS", 0)
    found = check(name, precision)
    wanted = SMALL[name][2]
    left = {**wanted, "LayerNorm": wanted["LayerNorm"] - products, "RowStatistics": products}
    assert found == {kind: count for kind, count in left.items() if count}
    if HAS_TRITON:
        check_plan(name, precision)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LARGE)
def test_large_networks(name: str) -> None:
    for precision in ("fp32", "fp16"):
        check(name, precision)
    prepared.cache_clear()
