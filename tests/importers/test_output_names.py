"""Outputs that the model calls as it calls an input keep their key, and get a name of their own in the graph."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import trine


class Towers(nn.Module):
    def forward(self, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"image": image + 1, "text": text * 2, "output_image": image - text}


def test_an_output_called_like_an_input() -> None:
    engine = trine.build(Towers(), {"image": torch.randn(2, 3), "text": torch.randn(2, 3)}, threads=1)
    assert [info.name for info in engine.outputs] == ["output_output_image", "output_text", "output_image"]
    ones = np.ones((4, 3), np.float32)
    answers = engine(image=ones, text=3 * ones)
    assert list(answers) == ["image", "text", "output_image"]
    assert [float(array[0, 0]) for array in answers.values()] == [2.0, 6.0, -2.0]
