"""Which tactic and configuration computes each group: remembered timings, fresh ones on a GPU, or the best guess."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trine.backends.cuda.compiler import compile_all, compile_each
from trine.backends.cuda.groups import Group
from trine.backends.cuda.kernel_cache import KernelCache, kernel_key
from trine.backends.cuda.registry import all_tactics
from trine.backends.cuda.signature import group_signature
from trine.backends.cuda.tactic import CudaTactic, Launch
from trine.backends.cuda.target import Target
from trine.backends.cuda.tuning_cache import TuningCache
from trine.errors import BuildError, DeviceError, DeviceLostError, DeviceMemoryError
from trine.runtime.cuda.plan import Kernel
from trine.versions import package_version

__all__ = ["Choice", "Chooser", "Timer"]


_GUESSES = 4  # configurations to fall back on, where there is no GPU to time them

_SAVED_EVERY = 16  # groups: what has been timed is not lost with the build


class Timer(Protocol):
    """Times launches on a device."""

    device_name: str

    def time(self, group: Group, launches: Sequence[Launch], kernels: Sequence[Kernel]) -> float:
        """Microseconds for all launches, one after another. Raises DeviceError when they cannot run."""
        ...


@dataclass(frozen=True)
class Choice:
    """What computes one group. ``latency_us`` is None where nobody measured it."""

    tactic: str
    configuration: Mapping[str, Any]
    launches: tuple[Launch, ...]
    latency_us: float | None = None


@dataclass
class _Candidate:
    tactic: CudaTactic
    configuration: Mapping[str, Any]

    def label(self) -> str:
        """Its name in the timing cache."""
        settings = ",".join(f"{key}={value}" for key, value in sorted(self.configuration.items()))
        return f"{self.tactic.name}[{settings}]"


@dataclass
class Chooser:
    """Chooses for the groups of a build; ``timer`` is None where there is no GPU of the target's kind.

    quick: time only what need not be compiled, and a few guesses where there is nothing else.
    most: so many configurations of each tactic are tried; tactics give their best guesses first.
    """

    target: Target
    cache: TuningCache
    kernel_cache: KernelCache
    timer: Timer | None = None
    quick: bool = False
    processes: int | None = None
    most: int = 8
    kernels: dict[str, Kernel] = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    _supported: dict[str, str | None] = field(default_factory=dict)
    _slower: dict[str, list[_Candidate]] = field(default_factory=dict)

    @property
    def device_name(self) -> str:
        """Where it times; empty without a GPU."""
        return self.timer.device_name if self.timer is not None else ""

    def refusal(self, group: Group) -> str | None:
        """Why no tactic can compute a group on the target; None where one can."""
        key = group_signature(group)
        if key not in self._supported:
            reasons: list[str] = []
            for tactic in all_tactics(self.kernel_cache.folder is not None):
                support = tactic.supports(group, self.target)
                if support:
                    reasons = []
                    break
                reasons.append(f"{tactic.name}: {support.reasons[0]}")
            # Tactics for other kinds of groups say only that.
            told = [reason for reason in reasons if " is no " not in reason]
            self._supported[key] = "; ".join(told or reasons) or None
        return self._supported[key]

    def choose(self, buckets: Mapping[int, Sequence[Group]], say: Callable[[str], None]) -> dict[int, list[Choice]]:
        """A choice for every group of every bucket.

        Raises BuildError for a group that no tactic supports or no configuration of which compiles, DeviceMemoryError
        for one that the GPU has no room to time.
        """
        distinct: dict[str, Group] = {}
        for groups in buckets.values():
            for group in groups:
                distinct.setdefault(group_signature(group), group)
        ranked = {key: self._ranked(key, group) for key, group in distinct.items()}
        best: dict[str, tuple[_Candidate, float | None]] = {}
        with contextlib.closing(self._compiled_in_turn(distinct, ranked, say)) as turns:
            for key in turns:
                best[key] = self._best(key, distinct[key], ranked[key])
                if len(best) % _SAVED_EVERY == 0:
                    self.cache.save()
        self.cache.save()
        return {
            rows: [self._for_group(group, best[group_signature(group)]) for group in groups]
            for rows, groups in buckets.items()
        }

    def _for_group(self, group: Group, best: tuple[_Candidate, float | None]) -> Choice:
        candidate, latency = best
        launches = tuple(candidate.tactic.launches(group, candidate.configuration, self.target))
        return Choice(candidate.tactic.name, candidate.configuration, launches, latency)

    def _ranked(self, key: str, group: Group) -> list[_Candidate]:
        """What to look at: the best that is remembered, then what has not been timed yet."""
        found, reasons = [], []
        guesses: set[str] = set()
        for tactic in all_tactics(self.kernel_cache.folder is not None):
            support = tactic.supports(group, self.target)
            if support:
                candidates = [_Candidate(tactic, each) for each in tactic.configurations(group, self.target)]
                if not self._compiles_here(tactic, group):
                    candidates = [candidate for candidate in candidates if self._at_hand(candidate, group)]
                found += candidates
                guesses |= {candidate.label() for candidate in candidates[: self.most]}
            else:
                reasons.append(f"{tactic.name}: {'; '.join(support.reasons)}")
        self.refusals[key] = reasons
        if not found:
            raise BuildError(
                f"{group.name}: no CUDA kernel for this {type(group).__name__} on {self.target.name}",
                {reason.partition(": ")[0]: reason.partition(": ")[2] for reason in reasons},
            )
        known = self.cache.timings(key)
        measured = sorted(
            (candidate for candidate in found if known.get(candidate.label()) is not None),
            key=lambda candidate: known[candidate.label()] or 0.0,
        )
        tried = {label for label in guesses if label in known or self._refused(label) in known}
        fresh = [c for c in found if c.label() in guesses and c.label() not in tried]
        if self.timer is None or self.quick:
            elsewhere = self.cache.elsewhere(key)
            fresh.sort(key=lambda candidate: elsewhere.get(candidate.label(), math.inf))  # guesses stay in order
        if self.timer is None:
            return measured + fresh[:_GUESSES]
        if self.quick:
            fresh = [c for c in fresh if self._at_hand(c, group)] or ([] if measured else fresh[:_GUESSES])
        self._slower[key] = measured[1:]
        return measured[:1] + fresh

    def _compiles_here(self, tactic: CudaTactic, group: Group) -> bool:
        """Of a tactic that can compute the group, if its kernels come from somewhere: those for Hopper may have to."""
        return tactic in all_tactics() or any(
            each.name == tactic.name and each.supports(group, self.target) for each in all_tactics()
        )

    def _at_hand(self, candidate: _Candidate, group: Group) -> bool:
        launches = candidate.tactic.launches(group, candidate.configuration, self.target)
        return all(self.kernel_cache.get(kernel_key(each.kernel, self.target)) is not None for each in launches)

    @staticmethod
    def _refused(label: str) -> str:
        """What the cache calls a configuration that did not compile: another Triton may be able to."""
        return f"{label} with Triton {package_version('triton')}"

    def _compiled_in_turn(
        self, distinct: Mapping[str, Group], ranked: Mapping[str, list[_Candidate]], say: Callable[[str], None]
    ) -> Generator[str]:
        """Each group when the kernels of all its candidates are there: some are timed while others compile."""
        sources: dict[str, Any] = {}
        missing: dict[str, set[str]] = {}
        readers: dict[str, list[str]] = {}
        for key, group in distinct.items():
            tried = ranked[key] if self.timer is not None else ranked[key][:1]  # more only if it does not compile
            kernels = {
                kernel_key(launch.kernel, self.target): launch.kernel
                for candidate in tried
                for launch in candidate.tactic.launches(group, candidate.configuration, self.target)
            }
            sources |= kernels
            missing[key] = set(kernels)
            for kernel in kernels:
                readers.setdefault(kernel, []).append(key)
        processes = self.processes
        if processes is None and self.timer is not None:
            # One core for what launches and times; but never this process, which does that, alone.
            processes = max(2, (os.cpu_count() or 1) - 1)
        chosen = 0

        def tell(number: int) -> None:
            say(f"kernels: {number} of {len(sources)} compiled, chosen for {chosen} of {len(distinct)} groups")

        for key, wanted in missing.items():
            if not wanted:  # all is remembered as refused
                chosen += 1
                yield key
        results = compile_each(sources.values(), self.target, self.kernel_cache, processes)
        for number, (kernel, result) in enumerate(results, 1):
            self._keep(kernel, result)
            for key in readers[kernel]:
                missing[key].discard(kernel)
                if not missing[key]:
                    chosen += 1
                    tell(number)
                    yield key
            tell(number)

    def _keep(self, key: str, result: Kernel | str) -> None:
        if isinstance(result, Kernel):
            self.kernels[key] = result
        else:
            self.refusals.setdefault(key, []).append(result)

    def _compiled(self, launches: Sequence[Launch]) -> list[Kernel] | None:
        keys = [kernel_key(launch.kernel, self.target) for launch in launches]
        if any(key not in self.kernels for key in keys):
            return None
        return [self.kernels[key] for key in keys]

    def _compiled_now(self, launches: Sequence[Launch]) -> list[Kernel] | None:
        for key, result in compile_all(
            [launch.kernel for launch in launches], self.target, self.kernel_cache, self.processes
        ).items():
            self._keep(key, result)
        return self._compiled(launches)

    def _best(self, key: str, group: Group, ranked: Sequence[_Candidate]) -> tuple[_Candidate, float | None]:
        known = self.cache.timings(key)
        failures = [f"{label}: refused before, says the timing cache" for label in known if known[label] is None]
        no_room: DeviceMemoryError | None = None  # says nothing of a kernel: another build may have it
        timed: list[tuple[float, _Candidate]] = []
        for candidate in ranked:
            label = candidate.label()
            launches = candidate.tactic.launches(group, candidate.configuration, self.target)
            kernels = self._compiled(launches)
            if kernels is None and self.timer is None:
                kernels = self._compiled_now(launches)
            if kernels is None:
                keys = [kernel_key(launch.kernel, self.target) for launch in launches]
                failures.append(f"{label}: {'; '.join(text for each in keys for text in self.refusals.get(each, []))}")
                self.cache.put(key, self._refused(label), None)
                continue
            latency = known.get(label)
            if self.timer is None:
                return candidate, latency
            if latency is None:
                try:
                    latency = self.timer.time(group, launches, kernels)
                except DeviceLostError:
                    raise
                except DeviceMemoryError as err:
                    no_room = err
                    continue
                except DeviceError as err:
                    failures.append(f"{label}: {err}")
                    self.cache.put(key, self._refused(label), None)
                    continue
                self.cache.put(key, label, latency)
            timed.append((latency, candidate))
        if not timed:
            # What is remembered may be of kernels that the Triton here does not compile.
            for candidate in self._slower.get(key, ()):
                launches = candidate.tactic.launches(group, candidate.configuration, self.target)
                if self._compiled_now(launches) is not None:
                    return candidate, known[candidate.label()]
            if no_room is not None:
                raise DeviceMemoryError(f"{group.name}: none of its kernels could be timed: {no_room}") from no_room
            raise BuildError(f"{group.name}: nothing for it compiles and runs:\n  " + "\n  ".join(failures))
        latency, candidate = min(timed, key=lambda each: each[0])
        return candidate, latency
