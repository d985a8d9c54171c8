"""CUDA plans as the inspector, the command line and the page show them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from runtime.cuda.sample_plans import plan, plan_with_cpu

from trine.engine.inspect_cuda import inspect_cuda_plans, tuned_bucket
from trine.errors import EngineFormatError
from trine.runtime.cuda.plan_bytes import plan_to_bytes


def timed():
    """A plan of which every group was timed."""
    made = plan(1, 4)
    groups = [({**group, "latency_us": group["latency_us"] or 4.0}) for group in made.buckets[1].groups]
    return replace(made, buckets=(made.buckets[0], replace(made.buckets[1], groups=tuple(groups))))


def test_what_is_said_of_a_plan():
    (found,) = inspect_cuda_plans({"cpu": b"{}", "cuda_sm_90": plan_to_bytes(timed())})
    assert json.loads(json.dumps(found)) == found
    assert (found["target"], found["precision"], found["kernels"]) == ("sm_90", "fp32", 3)
    assert [(bucket["rows"], bucket["launches"]) for bucket in found["buckets"]] == [(1, 3), (4, 3)]
    assert [bucket["latency_us"] for bucket in found["buckets"]] == [None, 7.0]
    assert [group["share"] for group in found["buckets"][0]["groups"]] == [0.5, None, 0.25]


def test_what_the_cpu_computes_of_a_plan():
    made = plan_with_cpu(1, 4)
    (found,) = inspect_cuda_plans({"cuda_sm_90": plan_to_bytes(made)})
    (part,) = found["cpu_parts"]
    assert part["operators"] == {"Neg": 1}
    assert part["nodes"] == [{"name": "y", "op": "Neg", "reason": "no kernels"}]
    assert part["bytes"] == len(made.cpu_parts[0].model)
    assert [bucket["cpu_steps"] for bucket in found["buckets"]] == [1, 1]
    (found,) = inspect_cuda_plans({"cuda_sm_90": plan_to_bytes(plan(1, 4))})
    assert (found["cpu_parts"], [bucket["cpu_steps"] for bucket in found["buckets"]]) == ([], [0, 0])


def test_an_engine_for_cpus_has_none():
    assert inspect_cuda_plans({"cpu": b"{}"}) == []


def test_a_damaged_plan():
    with pytest.raises(EngineFormatError, match="plan/cuda_sm_90"):
        inspect_cuda_plans({"cuda_sm_90": b"TRNCUDA1"})


@pytest.mark.parametrize(("rows", "bucket"), [(1, 1), (2, 4), (4, 4), (9, 4), (None, 4)])
def test_the_bucket_of_a_number_of_rows(rows, bucket):
    (found,) = inspect_cuda_plans({"cuda_sm_90": plan_to_bytes(plan(1, 4))})
    data = {"inputs": [{"profile": {"opt": [3, 3]}}]}
    assert tuned_bucket(data, found, rows)["rows"] == bucket
