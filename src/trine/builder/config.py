"""BuilderConfig: every option of a build, checked the moment it is made."""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trine.backends.cuda.target import target_named
from trine.errors import ConfigError
from trine.profile import Shape, ShapeRange

__all__ = ["DEVICES", "PRECISIONS", "TACTICS", "BuilderConfig"]

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "best")
DEVICES = ("cpu", "cuda", "tensorrt")
TACTICS = ("openvino", "onnxruntime")
DEFAULT_MAX_BATCH = 64


@dataclass(frozen=True)
class BuilderConfig:
    """How to build. Frozen; an unknown option or value raises ConfigError at once and says what is allowed.

    precision: "fp32" (truly fp32), "bf16" or "fp16" where the CPU computes in them, or "best": the fastest of
        these that stays inside the accuracy budget.
    batch: how many rows a call may have: an int for exactly that many, (min, opt, max) for a range. None: 1 to
        64 (or the example's batch, if larger), tuned for the example's.
    dynamic: other dimensions that may vary: {"input": {axis: (min, opt, max)}}.
    shapes: whole shapes, as trtexec takes them: {"input": (min, opt, max)}, each a tuple of ints. They decide
        which dimensions are dynamic, and replace ``batch`` and ``dynamic``.
    device: "cpu"; or "cuda" for an NVIDIA GPU, with a plan for CPUs beside it; or "tensorrt" for a plan that NVIDIA's
        TensorRT builds, beside one for CPUs, which is what is verified and answers.
    target: the GPU architecture to build for, such as "sm_90"; None: that of the GPU here. With one named, no GPU is
        needed: kernels are chosen by remembered timings, and the engine is verified on the CPU. With "tensorrt": one
        that the installed package builds for; None: whatever it builds for by itself.
    buckets: the numbers of rows that a CUDA engine has launches for; a call uses the next that is not smaller. None:
        the profile's opt and max, and the powers of two between its min and max.
    cpu_fallback: leave operators that have no CUDA kernels to the CPU, with a warning; False: refuse to build then.
    quick_tuning: time only those CUDA kernels that ``kernel_cache`` holds, and the best guesses where it holds none.
    kernel_cache: a folder that remembers compiled CUDA kernels.
    threads: how many threads a call uses; None: as many as the process may run on.
    tactics: the backends to try; None: all.
    timing_cache: a file that remembers timings, so that a second build need not measure.
    verify: compare the engine with its source before handing it over. False is recorded in the engine.
    accuracy_budget: the largest relative error allowed; None: the table's value for the precision.
    seed: for the random inputs of timing and verification.
    progress: show stages on stderr.
    """

    precision: str = "fp32"
    batch: int | tuple[int, int, int] | None = None
    dynamic: Mapping[str, Mapping[int, tuple[int, int, int]]] = field(default_factory=dict)
    shapes: Mapping[str, ShapeRange | tuple[Shape, Shape, Shape]] = field(default_factory=dict)
    device: str = "cpu"
    target: str | None = None
    buckets: tuple[int, ...] | None = None
    cpu_fallback: bool = True
    quick_tuning: bool = False
    kernel_cache: str | Path | None = None
    threads: int | None = None
    tactics: tuple[str, ...] | None = None
    timing_cache: str | Path | None = None
    verify: bool = True
    accuracy_budget: float | None = None
    seed: int = 0
    progress: bool = False

    @classmethod
    def from_options(cls, **options: Any) -> BuilderConfig:
        """From keywords. Raises ConfigError for unknown ones, naming the nearest."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ConfigError(f"unknown build option {name!r}; {hint}known: {', '.join(known)}")
        return cls(**{name: value for name, value in options.items() if value is not None or name != "shapes"})

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("device", self.device, DEVICES)
        if self.target is not None:
            if self.device != "tensorrt":
                target_named(self.target)
                object.__setattr__(self, "device", "cuda")
            elif not re.fullmatch(r"sm_\d+", self.target):
                raise ConfigError(f'target: expected an architecture such as "sm_86", got {self.target!r}')
        if self.buckets is not None:
            sizes = tuple(sorted(set(self.buckets)))
            if not sizes or not all(_is_int(size) and size > 0 for size in sizes):
                raise ConfigError(f"buckets: expected numbers of rows such as (1, 8, 64), got {self.buckets!r}")
            object.__setattr__(self, "buckets", sizes)
        if self.precision == "tf32" and self.device == "cpu":
            raise ConfigError('precision "tf32" is a format of NVIDIA GPUs; give device="cuda", or precision="fp32"')
        for name in ("verify", "progress", "quick_tuning", "cpu_fallback"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        if self.batch is not None:
            batch = (self.batch,) * 3 if _is_int(self.batch) else self.batch
            object.__setattr__(self, "batch", _range("batch", batch, lowest=1))
        object.__setattr__(self, "dynamic", _check_dynamic(self.dynamic))
        object.__setattr__(self, "shapes", _check_shapes(self.shapes))
        if self.shapes and (self.batch is not None or self.dynamic):
            raise ConfigError("shapes: already says the batch and every dynamic dimension; leave out batch and dynamic")
        if self.threads is not None and not (_is_int(self.threads) and 1 <= self.threads <= 4096):
            raise ConfigError(f"threads: expected a whole number from 1 to 4096 or None, got {self.threads!r}")
        if not (_is_int(self.seed) and self.seed >= 0):
            raise ConfigError(f"seed: expected a whole number >= 0, got {self.seed!r}")
        for name in ("threads", "seed"):  # NumPy's integers are as good, but no JSON
            object.__setattr__(self, name, None if getattr(self, name) is None else int(getattr(self, name)))
        if self.tactics is not None:
            named: Any = self.tactics
            tactics = (named,) if isinstance(named, str) else tuple(named)
            if not tactics:
                raise ConfigError(f"tactics: expected at least one of {', '.join(TACTICS)}, got none")
            for tactic in tactics:
                _one_of("tactics", tactic, TACTICS)
            object.__setattr__(self, "tactics", tactics)
        budget = self.accuracy_budget
        if budget is not None and not (isinstance(budget, int | float) and 0 < budget < float("inf")):
            raise ConfigError(f"accuracy_budget: expected a positive relative error such as 1e-3, got {budget!r}")
        for name in ("timing_cache", "kernel_cache"):
            path = getattr(self, name)
            if path is not None and not isinstance(path, str | Path):
                raise ConfigError(f"{name}: expected a path, got {type(path).__name__}")


def _is_int(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _one_of(option: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option}: {value!r} is unknown; allowed: {', '.join(allowed)}")


def _range(what: str, value: Any, lowest: int) -> tuple[int, int, int]:
    try:
        low, mid, high = value
    except (TypeError, ValueError):
        raise ConfigError(f"{what}: expected an int or (min, opt, max), got {value!r}") from None
    if not (all(map(_is_int, (low, mid, high))) and lowest <= low <= mid <= high):
        raise ConfigError(f"{what}: expected whole numbers with {lowest} <= min <= opt <= max, got {value!r}")
    return int(low), int(mid), int(high)


def _check_dynamic(dynamic: Any) -> dict[str, dict[int, tuple[int, int, int]]]:
    if dynamic is None:
        return {}
    checked: dict[str, dict[int, tuple[int, int, int]]] = {}
    if not isinstance(dynamic, Mapping):
        raise ConfigError(f"dynamic: expected {{input: {{axis: (min, opt, max)}}}}, got {dynamic!r}")
    for name, axes in dynamic.items():
        if not isinstance(axes, Mapping):
            raise ConfigError(f"dynamic[{name!r}]: expected {{axis: (min, opt, max)}}, got {axes!r}")
        for axis, limits in axes.items():
            if not (_is_int(axis) and axis >= 0):
                raise ConfigError(f"dynamic[{name!r}]: expected axes 0, 1, …, got {axis!r}")
            checked.setdefault(name, {})[int(axis)] = _range(f"dynamic[{name!r}][{axis}]", limits, lowest=0)
    return checked


def _check_shapes(shapes: Any) -> dict[str, ShapeRange]:
    if not shapes:
        return {}
    if not isinstance(shapes, Mapping):
        raise ConfigError(f"shapes: expected {{input: (min, opt, max)}}, got {shapes!r}")
    checked = {}
    for name, value in shapes.items():
        if isinstance(value, ShapeRange):
            checked[name] = value
            continue
        try:
            low, mid, high = (tuple(int(dim) for dim in shape) for shape in value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"shapes[{name!r}]: expected three shapes (min, opt, max), e.g. ((1,3,224,224),)*3, got {value!r}"
            ) from None
        try:
            checked[name] = ShapeRange(low, mid, high)
        except ConfigError as err:
            raise ConfigError(f"shapes[{name!r}]: {err}") from None
    return checked
