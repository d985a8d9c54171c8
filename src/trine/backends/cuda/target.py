"""The GPUs that engines are built for: what the kernels and the cost model need to know of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trine.errors import ConfigError

__all__ = ["TARGETS", "Target", "target_named"]


@dataclass(frozen=True)
class Target:
    """An architecture, with the figures of its usual data-centre or desktop part (NVIDIA's data sheets).

    capability: 90 for sm_90. shared_bytes: shared memory that one block may have. tflops: dense fp16.
    tf32: whether products of fp32 operands may round them to tf32, as the build's precision allows.
    """

    name: str
    capability: int
    multiprocessors: int
    shared_bytes: int
    l2_bytes: int
    bandwidth_gbps: float
    tflops: float
    tf32: bool = False

    @property
    def hopper(self) -> bool:
        """Whether wgmma and the tensor memory accelerator with im2col are there."""
        return self.capability == 90


TARGETS = {
    target.name: target
    for target in (
        Target("sm_80", 80, 108, 166912, 40 << 20, 1935, 312),  # A100
        Target("sm_86", 86, 84, 101376, 6 << 20, 936, 142),  # RTX 3090
        Target("sm_89", 89, 128, 101376, 72 << 20, 1008, 165),  # RTX 4090
        Target("sm_90", 90, 132, 232448, 50 << 20, 4300, 790),  # H200, bandwidth and rate as measured
        Target("sm_100", 100, 148, 232448, 126 << 20, 8000, 2250),  # B200
    )
}


def target_named(name: str, tf32: bool = False) -> Target:
    """Raises ConfigError for a GPU that is not known."""
    try:
        return replace(TARGETS[name], tf32=tf32)
    except KeyError:
        raise ConfigError(f"target: {name!r} is unknown; allowed: {', '.join(TARGETS)}") from None
