"""TensorRT's enums with NVIDIA's members and numbers, as the active era has them.

The numbers are facts of NvInfer.h, NvInferRuntime.h, NvInferRuntimeBase.h and NvOnnxParser.h. Some changed between
versions, when members were removed from the middle (``BuilderFlag.REFIT`` was 5 in TensorRT 8, and is 4 since 10), so
an enum is made for each era. Without an era it has the members of all versions, with the numbers of 10.16; those
that 10.16 lacks then have numbers from 40 on, which no mask of NVIDIA's uses.

Inside trine members are compared by name: they come from whichever era the program chose.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable
from typing import Any

from trine.compat.tensorrt import eras
from trine.compat.tensorrt.enum_numbers import NEWEST, OLDER, UNION

__all__ = [
    "NAMES",
    "DataType",
    "Severity",
    "TensorRTEnum",
    "current",
    "mask_of",
    "mask_of_all",
    "member_name",
    "names_in",
]


class TensorRTEnum(enum.IntEnum):
    """An enum as TensorRT's bindings make them: ``int()``, ``.name``, ``__members__``; ``str()`` shows the name."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {int(self)}>"

    __format__ = object.__format__  # type: ignore[assignment]


class Severity(TensorRTEnum):
    """How bad a message is; smaller is worse."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class DataType(TensorRTEnum):
    """Element types. ``itemsize`` is in bytes, and 0.5 for four bits."""

    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8
    INT4 = 9
    FP4 = 10
    E8M0 = 11

    @property
    def itemsize(self) -> float:
        """Bytes that an element takes."""
        return _ITEMSIZES[self.name]


_ITEMSIZES: dict[str, float] = {
    **dict.fromkeys(("FLOAT", "INT32"), 4),
    **dict.fromkeys(("HALF", "BF16"), 2),
    **dict.fromkeys(("INT8", "BOOL", "UINT8", "FP8", "E8M0"), 1),
    **dict.fromkeys(("INT4", "FP4"), 0.5),
    "INT64": 8,
}

NAMES = frozenset(NEWEST) | frozenset(name for versions in OLDER.values() for name in versions)
_SAME = {"SliceMode": "SampleMode", "ResizeMode": "InterpolationMode"}  # old names of the same enum


def current(name: str) -> Any:
    """The enum called ``name`` as the active era has it. Raises KeyError for a name that is no enum."""
    era = eras.active()
    return _make(_SAME.get(name, name), None if era is None else eras.ERAS[era][1])


@functools.cache
def _make(name: str, version: str | None) -> type[TensorRTEnum]:
    if version is None:
        members = {
            **_parse(NEWEST.get(name, "")),
            **_parse(OLDER["10.16"].get(name, "")),
            **_parse(UNION.get(name, "")),
        }
    else:
        members = _parse(OLDER.get(version, {}).get(name) or NEWEST[name])
        known = eras.names_of(version)
        here = known.get(name, frozenset()) | known.get({v: k for k, v in _SAME.items()}.get(name, ""), frozenset())
        if here:
            members = {member: number for member, number in members.items() if member in here}
    maker: Any = TensorRTEnum  # called with members, an enum without any makes another
    made: type[TensorRTEnum] = maker(name, members, module="trine.compat.tensorrt")
    return made


def _parse(text: str) -> dict[str, int]:
    """ "RELU=0 SIGMOID=1" as a dict; without numbers they count from 0."""
    members: dict[str, int] = {}
    for index, item in enumerate(text.split()):
        name, _, number = item.partition("=")
        members[name] = int(number) if number else index
    return members


def member_name(value: Any) -> str:
    """The name of an enum's member, or the name itself. Raises TypeError for anything else."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return value
    raise TypeError(f"expected a member of an enum, got {type(value).__name__}")


def mask_of(kind: str, names: Iterable[str]) -> int:
    """A bit for each of these members of the enum ``kind``; the active era may lack some."""
    members = current(kind).__members__
    return sum(1 << int(members[name]) for name in names if name in members)


def mask_of_all(kind: str) -> int:
    """A bit for each member of the enum ``kind``."""
    return mask_of(kind, (member.name for member in current(kind)))


def names_in(kind: str, mask: int) -> set[str]:
    """The names of the members of the enum ``kind`` whose bits are set in ``mask``."""
    return {member.name for member in current(kind) if int(mask) >> int(member) & 1}
