"""An engine's TensorRT plan as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trine.runtime.tensorrt.plan import TENSORRT_PLAN, TensorRTPlan

__all__ = ["inspect_tensorrt"]


def inspect_tensorrt(plans: Mapping[str, Any]) -> list[dict[str, Any]]:
    """[] without one, else one entry, JSON-able. Raises EngineFormatError for a damaged one.

    Keys: package, version, precision, target ("" for the package's own choice), plan_bytes, layers. A layer's: name,
    kind, tactic, inputs, outputs, nodes.
    """
    if TENSORRT_PLAN not in plans:
        return []
    plan = TensorRTPlan.from_bytes(plans[TENSORRT_PLAN])
    return [
        {
            "package": plan.package,
            "version": plan.version,
            "precision": plan.precision,
            "target": plan.target,
            "plan_bytes": len(plan.data),
            "layers": [dict(layer) for layer in plan.layers],
        }
    ]
