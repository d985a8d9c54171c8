"""Tensor maps of every tactic, for the groups of small networks, by the driver's own rules."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="compiles kernels with Triton, which is not installed")

from backends.cuda.kernels.test_gemm import product
from backends.cuda.test_networks import prepared
from runtime.cuda.tensor_map_rules import check_tensor_map

from trine.backends.cuda.groups import ITEM_BYTES
from trine.backends.cuda.kernels.gemm_gluon import HopperGemm
from trine.backends.cuda.lowering import lower
from trine.backends.cuda.records import tensor_map_record
from trine.backends.cuda.registry import all_tactics
from trine.backends.cuda.tactic import TensorMap
from trine.backends.cuda.target import TARGETS


@pytest.mark.parametrize("name", ["plain", "resnet", "mobilenet", "swin", "vit"])
def test_the_driver_takes_every_tensor_map(name: str) -> None:
    graph, inputs, outputs, *_ = prepared(name)
    target = TARGETS["sm_90"]
    found = 0
    for group in lower(graph, 1, inputs, outputs, "fp16").groups:
        for tactic in all_tactics(compiled_elsewhere=True):
            if not tactic.supports(group, target):
                continue
            for configuration in tactic.configurations(group, target):
                for launch in tactic.launches(group, configuration, target):
                    for argument in launch.arguments:
                        if isinstance(argument, TensorMap):
                            found += 1
                            view = argument.view
                            record = tensor_map_record(argument, ("arena", 0))
                            check_tensor_map(record, view.offset * ITEM_BYTES[view.dtype])
    assert found > 0


def test_one_row_of_one_output() -> None:
    group, target, tactic = product(1, 1, 512), TARGETS["sm_90"], HopperGemm(True)
    (launch,) = tactic.launches(group, tactic.configurations(group, target)[0], target)
    records = [tensor_map_record(each, ("arena", 0)) for each in launch.arguments if isinstance(each, TensorMap)]
    assert [1, 1] in [record["shape"] for record in records]
    for record in records:
        check_tensor_map(record, 0)
