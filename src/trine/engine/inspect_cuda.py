"""An engine's plans for NVIDIA GPUs as plain data: what is launched, how long it takes, and its floor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from trine.runtime.cuda.plan import Bucket, CpuPart, CudaPlan, cuda_plan_name
from trine.runtime.cuda.plan_bytes import plan_from_bytes

__all__ = ["inspect_cuda_plans", "tuned_bucket", "where_timed"]


def inspect_cuda_plans(plans: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An entry for each CUDA plan, JSON-able. Raises EngineFormatError for a damaged one.

    Keys: target, precision, device_name ("" where no kernel was timed), versions, kernels, kernel_bytes, weight_bytes,
    cpu_parts, buckets. A CPU part's, which has no kernels: nodes (name, op, reason of each), operators (how many of
    each), bytes. A bucket's: rows, launches, early (whether they are started before those that they wait for have
    ended), cpu_steps (how often the CPU computes a part), arena_bytes, latency_us
    (the sum of its groups; None unless all were timed), floor_us, groups. A group's: name, kind ("CPU" for a part on
    the CPU), tactic, configuration, latency_us, bytes, operations, floor_us, share (of the floor in the latency; 1 is
    as fast as the GPU allows).
    """
    names = sorted(name for name in plans if name.startswith(cuda_plan_name("")))
    return [_plan(plan_from_bytes(plans[name], f"plan/{name}")) for name in names]


def tuned_bucket(data: Mapping[str, Any], plan: Mapping[str, Any], rows: int | None = None) -> dict[str, Any]:
    """The plan's bucket that answers a call of ``rows`` rows; None: of the profile's opt, by the inspector's data."""
    shapes = [info["profile"]["opt"] for info in data["inputs"] if info.get("profile")]
    wanted = rows or next((shape[0] for shape in shapes if shape), 1)
    buckets: list[dict[str, Any]] = plan["buckets"]
    return next((bucket for bucket in buckets if bucket["rows"] >= wanted), buckets[-1])


def where_timed(plan: Mapping[str, Any]) -> str:
    """Where the microseconds of a plan, as ``inspect_cuda_plans`` gives it, come from."""
    if plan["device_name"]:
        return f"timed on {plan['device_name']}"
    groups = [group for bucket in plan["buckets"] for group in bucket["groups"]]
    if all(group["latency_us"] is None for group in groups):
        return "built without a GPU: nothing was timed"
    return f"built without a GPU: times of the same work on an {plan['target']}, from the timing cache or trine's own"


def _plan(plan: CudaPlan) -> dict[str, Any]:
    return {
        "target": plan.target,
        "precision": plan.precision,
        "device_name": plan.device_name,
        "versions": dict(plan.versions),
        "kernels": len(plan.kernels),
        "kernel_bytes": sum(len(kernel.cubin) for kernel in plan.kernels),
        "weight_bytes": plan.weight_bytes,
        "cpu_parts": [_part(part) for part in plan.cpu_parts],
        "buckets": [_bucket(bucket) for bucket in plan.buckets],
    }


def _part(part: CpuPart) -> dict[str, Any]:
    return {
        "nodes": [dict(node) for node in part.nodes],
        "operators": dict(Counter(node["op"] for node in part.nodes)),
        "bytes": len(part.model) + sum(len(data) for *_, data in part.weights),
    }


def _bucket(bucket: Bucket) -> dict[str, Any]:
    groups = [_group(group) for group in bucket.groups]
    latencies = [group["latency_us"] for group in groups]
    return {
        "rows": bucket.rows,
        "launches": len(bucket.launches),
        "early": bucket.early,
        "cpu_steps": len(bucket.cpu_steps),
        "arena_bytes": bucket.arena_bytes,
        "latency_us": None if None in latencies else round(sum(latencies), 3),
        "floor_us": round(sum(group["floor_us"] or 0.0 for group in groups), 3),
        "groups": groups,
    }


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    latency, floor = _number(group.get("latency_us")), _number(group.get("floor_us"))
    return {
        **{name: str(group.get(name, "")) for name in ("name", "kind", "tactic")},
        "configuration": group.get("configuration"),
        "latency_us": latency,
        "bytes": group.get("bytes"),
        "operations": group.get("operations"),
        "floor_us": floor,
        "share": round(floor / latency, 4) if latency and floor is not None else None,
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
