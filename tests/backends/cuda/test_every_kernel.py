"""Every tactic of the registry: that some group is for it, and that what it claims for an architecture compiles for it.

A kernel's sizes are numbers in its source, so that each layer has kernels of its own: twenty thousand for the groups
here. Compiled are those in which a configuration, or a form of kernel, is seen for the first time on an architecture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from backends.cuda.compiling import ALL_TARGETS

pytest.importorskip("triton", reason="kernels are written in Triton, which is not installed")

from backends.cuda.every_group import made_by_hand, of_small_networks

from trine.backends.cuda.compiler import compile_all
from trine.backends.cuda.groups import ITEM_BYTES, Group
from trine.backends.cuda.kernel_cache import KernelCache, kernel_key, plain_value
from trine.backends.cuda.kernels.conv_gluon import HopperConv
from trine.backends.cuda.registry import all_tactics
from trine.backends.cuda.tactic import CudaTactic, Launch
from trine.backends.cuda.target import Target
from trine.runtime.cuda.plan import Kernel

PROCESSES = 2
COUNTS = ("split_k", "group_m", "parts")  # how much a program does, whose code is the same for two and for ten
TACTICS = all_tactics(compiled_elsewhere=True)  # those for Hopper too, whatever Triton is installed
needs_gluon = pytest.mark.skipif(not HopperConv().compiles, reason="kernels for Hopper need Triton 3.8")


@pytest.mark.parametrize("tactic", TACTICS, ids=lambda tactic: tactic.name)
def test_every_tactic_takes_a_group(tactic: CudaTactic) -> None:
    assert any(tactic.supports(group, target) for group in made_by_hand() for target in ALL_TARGETS)


@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda target: target.name)
def test_a_tactic_that_takes_a_group_has_configurations(target: Target) -> None:
    for tactic, group, asked in _claims(made_by_hand(), target):
        assert tactic.configurations(group, asked), f"{tactic.name}: none for {group.name} {group.y.shape}"


@needs_gluon
@pytest.mark.exhaustive
@pytest.mark.parametrize("target", ALL_TARGETS, ids=lambda target: target.name)
def test_every_configuration_compiles(target: Target) -> None:
    chosen = dict(_first_of_each(target))
    compiled = compile_all([launch.kernel for launch in chosen.values()], target, KernelCache(), PROCESSES)
    wrong = []
    for label, launch in chosen.items():
        kernel = compiled[kernel_key(launch.kernel, target)]
        if not isinstance(kernel, Kernel):
            wrong.append(f"{label}: {kernel}")
        elif kernel.shared_bytes > target.shared_bytes:
            wrong.append(
                f"{label}: {kernel.shared_bytes} bytes of shared memory; {target.name} has {target.shared_bytes}"
            )
        else:
            assert len(kernel.parameters) == len(launch.arguments), label
    assert not wrong, f"{len(wrong)} of {len(chosen)}:\n" + "\n".join(wrong)
    assert {label.partition(":")[0] for label in chosen} == {tactic.name for tactic, *_ in _all_claims(target)}


def _claims(groups: Sequence[Group], target: Target) -> Iterator[tuple[CudaTactic, Group, Target]]:
    """Every tactic with every group that it takes; fp32 once as it is and once as tf32."""
    for group in groups:
        for asked in (target, replace(target, tf32=True)) if group.y.dtype == "fp32" else (target,):
            for tactic in TACTICS:
                if tactic.supports(group, asked):
                    yield tactic, group, asked


def _all_claims(target: Target) -> Iterator[tuple[CudaTactic, Group, Target]]:
    return _claims([*made_by_hand(), *of_small_networks()], target)


def _first_of_each(target: Target) -> Iterator[tuple[str, Launch]]:
    """(label, launch) of every configuration, for operands of 16 and of 32 bits, and of every form of kernel."""
    seen: set[Any] = set()
    for tactic, group, asked in _all_claims(target):
        for configuration in tactic.configurations(group, asked):
            for number, launch in enumerate(tactic.launches(group, configuration, asked)):
                tile = {key: _switch(value) if key in COUNTS else value for key, value in configuration.items()}
                named = (tactic.name, number, ITEM_BYTES[group.views()[0].dtype], repr(tile))
                form = (tactic.name, number, _form(launch))
                if not {named, form} <= seen:
                    seen |= {named, form}
                    yield f"{tactic.name}: {group.name} {group.y.shape} {configuration} {number}", launch


def _form(launch: Launch) -> Any:
    """What is left of a kernel without its sizes: types, switches, functions, which operands there are."""
    source = launch.kernel
    written = getattr(source.function, "generated_source", source.function.fn.__name__)
    types = tuple(re.sub(r"\d{2,}", "#", kind) if "[" in kind else kind for kind in source.signature.values())
    values = tuple((name, _switch(plain_value(value))) for name, value in source.constants.items())
    return re.sub(r"\d+(\.\d+)?", "#", written), types, values


def _switch(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "#" if number and value not in (0, 1) else str(value)
