"""Which GPUs run machine code that was made for which architecture, and what to do where none does."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["TARGETS", "remedy", "runnable"]

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100")  # what engines are built for

# Machine code runs on later architectures of the same generation. From sm_90 on Triton makes that of one architecture
# alone ("sm_90a"), and those of Jetson boards (sm_87) run nothing but their own.
_ALSO_RUN = {86: ("sm_80",), 89: ("sm_86", "sm_80")}


def runnable(targets: Iterable[str], capability: int) -> list[str]:
    """Those of ``targets`` that a GPU of this capability (90 for sm_90) runs, the best for it first."""
    given = set(targets)
    return [name for name in (f"sm_{capability}", *_ALSO_RUN.get(capability, ())) if name in given]


def remedy(capability: int) -> str:
    """What to do on a GPU of this capability with an engine that has no kernels for it."""
    if runnable(TARGETS, capability):
        return f'build it with target="sm_{capability}", or load it with device="cpu"'
    return f'engines can be built for {", ".join(TARGETS)} only; load it with device="cpu"'
