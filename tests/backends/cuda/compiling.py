"""Compile launches for GPU architectures that need not be there."""

from __future__ import annotations

from typing import Any

from trine.backends.cuda.compiler import compile_kernel
from trine.backends.cuda.groups import Group
from trine.backends.cuda.target import TARGETS, Target
from trine.runtime.cuda.plan import Kernel

__all__ = ["ALL_TARGETS", "compile_group"]

ALL_TARGETS = tuple(TARGETS.values())


def compile_group(tactic: Any, group: Group, target: Target, configuration: Any = None) -> list[Kernel]:
    """The kernels of one configuration, the first if none is given."""
    support = tactic.supports(group, target)
    assert support, support.reasons
    if configuration is None:
        configuration = tactic.configurations(group, target)[0]
    return [compile_kernel(launch.kernel, target) for launch in tactic.launches(group, configuration, target)]
