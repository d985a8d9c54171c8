"""Compile launches for GPU architectures that need not be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trine.backends.cuda.compiler import compile_kernel
from trine.backends.cuda.groups import Group
from trine.backends.cuda.target import TARGETS, Target
from trine.errors import BuildError
from trine.runtime.cuda.plan import Kernel

__all__ = ["ALL_TARGETS", "compile_group", "every_kernel"]

ALL_TARGETS = tuple(TARGETS.values())


def compile_group(tactic: Any, group: Group, target: Target, configuration: Any = None) -> list[Kernel]:
    """The kernels of one configuration, the first if none is given."""
    support = tactic.supports(group, target)
    assert support, support.reasons
    if configuration is None:
        configuration = tactic.configurations(group, target)[0]
    return [compile_kernel(launch.kernel, target) for launch in tactic.launches(group, configuration, target)]


def every_kernel(tactic: Any, group: Group, target: Target) -> Iterator[tuple[Any, list[Kernel]]]:
    """Each configuration with its kernels, but those that take more shared memory than the target has: a build leaves
    these out too, for their reason. The first guess is none of them, nor are most."""
    configurations = tactic.configurations(group, target)
    refused = []
    for configuration in configurations:
        try:
            kernels = compile_group(tactic, group, target, configuration)
        except BuildError as err:
            if "bytes of shared memory" not in str(err):
                raise
            refused.append(configuration)
        else:
            assert all(kernel.shared_bytes <= target.shared_bytes for kernel in kernels)
            yield configuration, kernels
    assert configurations[0] not in refused
    assert 2 * len(refused) < len(configurations), refused
