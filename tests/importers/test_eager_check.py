"""What counts as the same answer: budgets, nudges, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import user_models as user
from torch import nn

from trine.errors import ModelImportError
from trine.importers import import_model
from trine.importers.graph_runner import GraphRunner


def chaotic(self: Any, x: torch.Tensor) -> torch.Tensor:
    for _ in range(12):  # each step multiplies an error, which libraries' tanh has in the last bit, by up to 8
        x = torch.sin(8 * torch.tanh(x))
    return x


def test_rounding_that_the_model_itself_amplifies_is_no_fault_of_the_import(caplog: pytest.LogCaptureFixture) -> None:
    import_model(user.module(chaotic), torch.rand(2, 50, generator=torch.Generator().manual_seed(0)))
    assert "amplifies rounding: output 'output' moves by" in caplog.text


def test_a_small_error_of_a_tame_model_is_refused() -> None:
    with pytest.raises(ModelImportError, match=r"relative error \d.*e-0[34], allowed 1e-04"):
        import_model(user.Converted(), torch.rand(2, 4), converters={"torch.tanh": tanh_a_little_off})


def tanh_a_little_off(ctx: Any) -> None:
    tanh = ctx.network.add_activation(ctx.tensor(ctx.method_args[0]), "TANH").get_output(0)
    layer = ctx.network.add_elementwise(tanh, ctx.tensor(1.002), "PROD")
    ctx.set_output(ctx.method_return, layer.get_output(0))


def test_autocast_is_judged_by_its_narrow_type() -> None:
    class Autocast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.linear(x).float().cumsum(-1)

    imported = import_model(Autocast(), torch.rand(2, 64))
    assert imported.example_inputs["x"].dtype.name == "float32"


def test_inputs_whose_sizes_belong_together_are_named_where_another_batch_breaks_them() -> None:
    class Bags(nn.Module):
        def forward(self, indices: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
            return nn.functional.embedding_bag(indices, torch.arange(20.0).reshape(10, 2), offsets, mode="sum")

    inputs = torch.randint(0, 10, (6,)), torch.tensor([0, 3])
    with pytest.raises(ModelImportError, match=r"(?s)random inputs.*Bags itself fails on.*embedding_bag.*batch=n"):
        import_model(Bags(), inputs)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_model_that_contains_torchscript() -> None:
    part = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).eval()), torch.rand(2, 4))
    imported = import_model(nn.Sequential(nn.Linear(4, 4), part), torch.rand(2, 4))
    x = torch.rand(5, 4)
    with torch.no_grad():
        want = imported.reference({"input": x.numpy()})["output"]
    assert GraphRunner(imported.model)({"input": x.numpy()})["output"] == pytest.approx(want, rel=1e-4, abs=1e-5)
