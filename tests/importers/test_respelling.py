"""Functions that PyTorch's exporter translates in one spelling only: each spelling is imported and answers as eager."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import trine

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "clamp between an int and a float": lambda x: x.clamp(-0.5, 3),
    "clamp in place": lambda x: (x * 1).clamp_(0, 1.5),
    "clamp by names": lambda x: torch.clamp(x, min=-1, max=0.25),
    "clip": lambda x: torch.clip(x, 0, 1.5),
    "clamp of ints": lambda x: (x * 5).int().clamp(0, 2.5),
    "cdist": lambda x: torch.cdist(x, x + 1),
    "cdist, p=1": lambda x: torch.cdist(x, x.flip(-1), p=1.0),
    "fake quantisation": lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 3, -8, 7),
    "fake quantisation of channels": lambda x: torch.fake_quantize_per_channel_affine(
        x, torch.tensor([0.1, 0.2, 0.3, 0.1, 0.5]), torch.tensor([0, 1, 2, 0, 0], dtype=torch.int32), 1, -8, 7
    ),
    "mean of ints as floats": lambda x: (x * 5).int().mean(-1, dtype=torch.float32),
    "bags of int32 indices": lambda x: nn.functional.embedding_bag(
        (x[:, 0].abs() * 2).clamp(max=4).int(), torch.arange(15.0).reshape(5, 3), mode="sum"
    ),
    "hypot": lambda x: torch.hypot(x, x + 1),
    "hypot of what squares beyond fp32": lambda x: (x * 1e30).hypot(x * 1e30),
}


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_answers_as_eager(name: str) -> None:
    module = Function(FUNCTIONS[name])
    torch.manual_seed(0)
    engine = trine.build(module, (torch.randn(2, 5, 6),), tactics=("onnxruntime",))
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(engine(x), module(x), rtol=1e-5, atol=1e-5)


def test_a_query_that_may_look_at_no_key_gets_the_mean_as_in_pytorch() -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
            mask = (1.0 - (keep > 0).to(x.dtype))[:, None, None] * torch.finfo(x.dtype).min
            attend = nn.functional.scaled_dot_product_attention
            return attend(x, x, x, mask) + attend(x, x, x, (keep > -1)[:, None, None])

    module = Masked()
    example = torch.randn(2, 2, 3, 4), torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    engine = trine.build(module, example, tactics=("onnxruntime",))
    x, keep = torch.randn(3, 2, 3, 4), torch.tensor([[0.0, 0, 0], [0, 1, 1], [0, 0, 1]])
    torch.testing.assert_close(engine(x, keep), module(x, keep), rtol=1e-5, atol=1e-5)
