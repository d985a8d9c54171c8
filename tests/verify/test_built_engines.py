"""``trine.verify`` on engines that were really built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import trine

torch.set_num_threads(1)


class TwoHeads(torch.nn.Module):
    """Several inputs, one of them indices and by keyword; a dict of outputs, one of them integers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(11, 6)
        self.linear = torch.nn.Linear(6, 5)

    def forward(self, x: torch.Tensor, *, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.linear(x + self.words(ids).mean(1))
        return {"scores": scores, "winner": scores.argmax(-1)}


def inputs(batch: int) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(batch, 6), "ids": torch.arange(batch * 3).reshape(batch, 3) % 11}


@pytest.fixture(scope="module")
def model() -> TwoHeads:
    return TwoHeads().train()


@pytest.fixture(scope="module")
def engine(model: TwoHeads) -> trine.Engine:
    return trine.build(model, inputs(2), batch=(1, 4, 16), threads=1)


def test_the_evidence_of_a_build_is_a_report(engine: trine.Engine) -> None:
    report = trine.Report.from_json(engine.manifest.evidence)
    assert report.passed
    assert {(row.case, row.output) for row in report.rows} == {
        (case, output) for case in ("example", "min", "opt", "max") for output in ("scores", "winner")
    }
    assert report.row_independence is not None
    assert report.row_independence.source_independent
    assert report.seed == 0


def test_on_the_users_inputs(engine: trine.Engine, model: TwoHeads, tmp_path: Path) -> None:
    batches = [inputs(3), {name: value.numpy() for name, value in inputs(1).items()}]
    report = trine.verify(engine, model, batches)
    assert report.passed, str(report)
    assert [row.case for row in report.rows] == ["inputs[0]"] * 2 + ["inputs[1]"] * 2
    engine.save(tmp_path / "net.trine")
    with trine.load(tmp_path / "net.trine") as loaded:
        assert trine.verify(loaded, model, batches).passed
        assert model.training


def test_another_models_weights_fail_with_the_table(engine: trine.Engine, model: TwoHeads) -> None:
    other = TwoHeads()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.linear.bias[2] += 0.01
    report = trine.verify(engine, other, inputs(4))
    assert not report.passed
    assert "scores: relative error" in str(report)


def test_a_build_outside_its_budget_raises_with_the_report(model: TwoHeads) -> None:
    with pytest.raises(trine.AccuracyError, match="FAILED: fp32, budget 1e-12") as caught:
        trine.build(model, inputs(2), threads=1, accuracy_budget=1e-12)
    assert not caught.value.report.passed


def test_nan_in_passes_through(engine: trine.Engine, model: TwoHeads) -> None:
    planted = inputs(4)
    planted["x"][1, 2] = np.nan
    report = trine.verify(engine, model, planted)
    assert report.nonfinite_mismatches == 0
    scores = [row for row in report.rows if row.output == "scores"]
    assert all(row.passed for row in scores)
