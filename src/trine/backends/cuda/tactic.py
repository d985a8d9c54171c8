"""What a CUDA tactic is: one kernel, or a few, that can compute a group, and the configurations worth timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trine.backends.cuda.groups import Buffer, Group, View
from trine.backends.cuda.target import Target
from trine.backends.tactic import Support

__all__ = ["Argument", "CudaTactic", "KernelSource", "Launch", "Pointer", "Rows", "Scalar", "Scratch", "TensorMap"]


@dataclass(frozen=True)
class KernelSource:
    """A Triton function with everything that compiling it takes. Equal sources are compiled once.

    ``signature``: Triton's type of every parameter in order ("*fp16", "i32", "fp32", "constexpr",
    "tensordesc<fp16[128, 64]>"); ``constants``: the values of those that are constexpr. ``divisible``: the names of
    integer and pointer parameters that are multiples of 16 (elements or bytes), which allows wide loads.
    """

    function: Any  # a triton JITFunction
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 3
    divisible: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)  # more of triton.compile's options
    gluon: bool = False


@dataclass(frozen=True)
class Pointer:
    """The address of a view's first element."""

    view: View


@dataclass(frozen=True)
class Scratch:
    """The address of memory that lives during this launch group only, ``offset`` bytes into buffer ``buffer``."""

    buffer: Buffer


@dataclass(frozen=True)
class Scalar:
    """``dtype``: i32, i64 or fp32."""

    dtype: str
    value: float | int


@dataclass(frozen=True)
class Rows:
    """The number of rows of the call, times ``factor``, as an i32."""

    factor: int = 1


@dataclass(frozen=True)
class TensorMap:
    """A host-made TMA descriptor of ``view``; ``box`` is the tile, in the order of the view's axes.

    im2col is not None for convolutions: (lower corner, upper corner, channels per pixel, pixels per column); ``steps``
    is then the distance of neighbours along each axis of the view, where it is not 1.
    """

    view: View
    box: tuple[int, ...]
    im2col: tuple[tuple[int, ...], tuple[int, ...], int, int] | None = None
    steps: tuple[int, ...] | None = None


Argument = Pointer | Scratch | Scalar | Rows | TensorMap


@dataclass(frozen=True)
class Launch:
    """One kernel launch. ``arguments``: for the parameters that are not constexpr, in order."""

    kernel: KernelSource
    grid: tuple[int, int, int]
    arguments: tuple[Argument, ...]


class CudaTactic(Protocol):
    """One way to compute some groups."""

    @property
    def name(self) -> str:
        """What the inspector shows, e.g. "triton implicit gemm"."""
        ...

    def supports(self, group: Group, target: Target) -> Support:
        """Whether it can, or every reason why not."""
        ...

    def configurations(self, group: Group, target: Target) -> Sequence[Mapping[str, Any]]:
        """What to time, the best guess first. JSON-able values only: they are kept in the timing cache."""
        ...

    def launches(self, group: Group, configuration: Mapping[str, Any], target: Target) -> Sequence[Launch]:
        """The launches, in order. Scratch buffers are made here as arena buffers and named in Scratch."""
        ...
