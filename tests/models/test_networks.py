"""A dozen networks of different families, whole: imported, built, and right at a batch size not seen before.

The sweep in benchmarks/ does the same for all of torchvision's classifiers and every family of timm.
"""

from __future__ import annotations

import pytest
from sweep_import import LIMIT, check_one

NETWORKS = [
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/squeezenet1_1",
    "torchvision/alexnet",
    "timm/vision_transformer/test_vit",
    "timm/convnext/test_convnext",
    "timm/efficientnet/test_efficientnet",
    "timm/mambaout/test_mambaout",
    "timm/nfnet/test_nfnet",
    "timm/ghostnet/ghostnet_050",
    "timm/mobilevit/mobilevit_xxs",
    "timm/edgenext/edgenext_xx_small",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # timm and PyTorch warn while constructing; trine's own import does not
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_as_eager_does_at_an_unseen_batch(name: str) -> None:
    result = check_one(name, threads=1)
    assert result["relative_error"] <= LIMIT
    assert result["row_spread"] > 1e-3  # else the network answers the same to everything, and proves nothing
