import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import trine
from trine.builder import cpu
from trine.errors import BuildError
from trine.runtime.cpu.openvino_executor import supported_precisions
from trine.verify.report import Report


class TwoHeads(torch.nn.Module):
    """Two inputs, one by keyword; a dict of outputs, one of them nested."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image, *, scale):
        features = torch.relu(self.norm(self.conv(image))).mean((2, 3))
        return {"logits": self.head(features) * scale, "more": (features, features.argmax(1))}


def make_net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 5),
    )


@pytest.fixture(scope="module")
def net():
    return make_net().eval()


@pytest.fixture(scope="module")
def engine(net):
    return trine.build(net, torch.randn(2, 3, 16, 16), batch=(1, 2, 8))


def test_answers_as_the_module_does_at_every_batch(engine, net):
    for rows in (1, 3, 8):
        x = torch.randn(rows, 3, 16, 16)
        with torch.no_grad():
            want = net(x)
        torch.testing.assert_close(engine(x), want, rtol=1e-4, atol=1e-5)


def test_records_how_it_was_built_and_checked(engine):
    build = engine.manifest.build
    assert [stage["name"] for stage in build["stages"]] == ["import", "passes", "compile", "time", "verify"]
    assert sum(tactic["chosen"] for tactic in build["tactics"]) == 1
    assert all(tactic["latency_ms"] > 0 for tactic in build["tactics"])
    assert build["nodes_after"] < build["nodes_before"]
    report = Report.from_json(engine.manifest.evidence)
    assert report.passed
    assert {row.case for row in report.rows} >= {"example", "min", "opt", "max"}
    assert report.row_independence is not None


def test_structures_and_keywords_come_through():
    module = TwoHeads().eval()
    x, scale = torch.randn(2, 3, 8, 8), torch.tensor(2.0)
    engine = trine.build(module, {"image": x, "scale": scale})
    got, want = engine(x, scale=scale), module(x, scale=scale)
    torch.testing.assert_close(got["logits"], want["logits"].detach(), rtol=1e-4, atol=1e-5)
    assert isinstance(got["more"], tuple)
    assert torch.equal(got["more"][1], want["more"][1])


def test_a_dataclass_comes_back_as_one():
    @dataclasses.dataclass
    class Answer:
        logits: torch.Tensor
        hidden: torch.Tensor | None = None

    class Net(torch.nn.Module):
        def forward(self, x):
            return Answer(logits=x * 2)

    engine = trine.build(Net(), torch.randn(2, 3))
    x = np.ones((4, 3), np.float32)
    answer = trine.load(engine.serialize())(x)
    np.testing.assert_array_equal(answer.logits, x * 2)
    assert answer.hidden is None
    assert dataclasses.is_dataclass(answer)


def test_an_engine_keeps_its_weights_when_training_goes_on():
    net = make_net().eval()
    engine = trine.build(net, torch.randn(2, 3, 16, 16))
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    before = engine(x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(engine(x), before)


def test_the_second_build_with_a_timing_cache_does_not_measure(net, tmp_path, monkeypatch):
    x, options = torch.randn(2, 3, 16, 16), {"timing_cache": tmp_path / "t.cache"}
    first = trine.build(net, x, **options)

    def measured(*args, **kwargs):
        raise AssertionError("the second build measured again")

    monkeypatch.setattr(cpu, "time_interleaved", measured)
    second = trine.build(net, x, **options)
    assert second.tactic == first.tactic
    with pytest.raises(AssertionError, match="measured again"):
        trine.build(net, x, **options, threads=1)


def test_outside_the_budget_there_is_no_engine(net):
    with pytest.raises(trine.AccuracyError, match="outside the accuracy budget") as caught:
        trine.build(net, torch.randn(2, 3, 16, 16), accuracy_budget=1e-12)
    assert not caught.value.report.passed
    assert "FAILED" in str(caught.value)


def test_unverified_is_possible_and_recorded(net):
    engine = trine.build(net, torch.randn(2, 3, 16, 16), verify=False)
    assert engine.manifest.evidence is None


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_where_the_cpu_has_it_else_a_reason(net, precision):
    x = torch.randn(2, 3, 16, 16)
    if precision in supported_precisions():
        assert trine.build(net, x, precision=precision).manifest.precision == precision
    else:
        with pytest.raises(trine.ConfigError, match=f"this CPU does not compute in {precision}"):
            trine.build(net, x, precision=precision)


def test_best_takes_what_is_fastest_here_and_keeps_the_reasons(net):
    engine = trine.build(net, torch.randn(2, 3, 16, 16), precision="best")
    tactics = engine.manifest.build["tactics"]
    assert {(t["name"], t["precision"]) for t in tactics} >= {("openvino", "bf16"), ("onnxruntime", "fp32")}
    timed = [t for t in tactics if t["latency_ms"] is not None]
    chosen = next(t for t in tactics if t["chosen"])
    assert chosen["latency_ms"] == min(t["latency_ms"] for t in timed)
    assert all(t["reasons"] for t in tactics if t["latency_ms"] is None)


@pytest.mark.parametrize("tactic", ["openvino", "onnxruntime"])
def test_a_tactic_can_be_asked_for(net, tactic):
    engine = trine.build(net, torch.randn(2, 3, 16, 16), tactics=(tactic,))
    assert engine.tactic == tactic
    refused = next(t for t in engine.manifest.build["tactics"] if not t["chosen"])
    assert refused["reasons"] == ["not among tactics="]


def test_builds_in_several_threads(net):
    """PyTorch's export is not made for that: builds take turns."""

    def make(_):
        return trine.build(net, torch.zeros(2, 3, 8, 8), tactics=("onnxruntime",))

    x = torch.ones(3, 3, 8, 8)
    with ThreadPoolExecutor(3) as pool:
        engines = list(pool.map(make, range(3)))
    for engine in engines:
        torch.testing.assert_close(engine(x), net(x).detach(), rtol=1e-4, atol=1e-5)


def test_a_config_is_a_builder_config(net):
    with pytest.raises(trine.ConfigError, match="config: expected a BuilderConfig, got dict"):
        trine.build(net, torch.zeros(2, 3, 8, 8), config={"batch": 2})


def test_options_come_one_way(net):
    with pytest.raises(trine.ConfigError, match="not both"):
        trine.build(net, torch.randn(1, 3, 16, 16), config=trine.BuilderConfig(), seed=1)


def test_other_dimensions_can_be_dynamic():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1)).eval()
    engine = trine.build(net, torch.randn(2, 3, 16, 16), dynamic={"input": {2: (8, 16, 32), 3: (8, 16, 32)}})
    x = torch.randn(1, 3, 24, 9)
    torch.testing.assert_close(engine(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(trine.InputError, match="from 8 to 32"):
        engine(torch.randn(1, 3, 40, 9))


@pytest.mark.parametrize("tactic", ["openvino", "onnxruntime"])
def test_a_size_that_the_model_cannot_take_is_named(tactic):
    network = trine.Network("views")
    layer = network.add_shuffle(network.add_input("x", "float32", ("batch", 3, 4)))
    layer.reshape_dims = (1, 12)
    network.mark_output(layer.get_output(0))
    with pytest.raises(
        BuildError, match=r"views: .* cannot compute x \[4, 3, 4\], which the profile allows: .*batch=1"
    ):
        trine.build(network, batch=(1, 1, 4), tactics=(tactic,))
