"""Which version of TensorRT a program thinks it talks to: the version reported, and the names it can see.

Without an era, the newest idioms work and so does every older one; the version reported is the newest that still has
most of them. ``use("8")`` reports that version and takes away the names that it had not yet, or had no more:
``hasattr(engine, "num_bindings")`` then answers as it would there. The era is the process's, as TensorRT's version is.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from trine.errors import ConfigError

__all__ = ["ERAS", "Checked", "active", "before", "names_of", "override", "reported_version", "retired", "use"]

# What each era reports, from NvInferVersion.h of NVIDIA's releases; and the version whose names it shows.
ERAS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "5": ("5.1.5.0", "8.2"),
        "6": ("6.0.1.5", "8.2"),
        "7": ("7.2.1.6", "8.2"),
        "8": ("8.6.1", "8.6"),
        "8.2": ("8.2.1.8", "8.2"),
        "8.6": ("8.6.1", "8.6"),
        "10": ("10.16.0.72", "10.16"),
        "10.0": ("10.0.0", "10.0"),
        "10.16": ("10.16.0.72", "10.16"),
        "11": ("11.1.0.106", "11.1"),
        "11.1": ("11.1.0.106", "11.1"),
    }
)
DEFAULT_VERSION = "10.16.0.72"

# What 5 to 7 had and 8.0 removed. Programs do not probe for these: every era before 10 shows them.
BEFORE_8: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "Builder": frozenset(
            [
                "build_cuda_engine",
                "max_workspace_size",
                "fp16_mode",
                "int8_mode",
                "int8_calibrator",
                "strict_type_constraints",
                "debug_sync",
                "average_find_iterations",
                "min_find_iterations",
                "refittable",
            ]
        ),
        "Dims": frozenset({"volume"}),
        "INetworkDefinition": frozenset(),
    }
)

_era: str | None = None
_classes: dict[str, type] = {}
_taken: list[tuple[type, str, Any]] = []  # what `use` hid: the class, the name, and the class's own member if any


def active() -> str | None:
    """The era's name as given to ``use``; None for every idiom at once."""
    return _era


def reported_version() -> str:
    """What ``__version__`` says."""
    return DEFAULT_VERSION if _era is None else ERAS[_era][0]


def before(major: int) -> bool:
    """Whether an era was chosen and it is older than ``major``."""
    return _era is not None and int(_era.partition(".")[0]) < major


class _Hidden:
    """In a member's place while the era has not got it: programs do not see it, trine's own code does."""

    def __init__(self, member: Any) -> None:
        self.member = member

    def __get__(self, instance: object, owner: type) -> Any:
        if not _is_own(sys._getframe(1)):
            raise AttributeError(f"TensorRT {reported_version()} has no such member of {owner.__name__}")
        return self.member.__get__(instance, owner) if hasattr(self.member, "__get__") else self.member

    def __set__(self, instance: object, value: Any) -> None:
        self.member.__set__(instance, value)


def _is_own(frame: Any) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(__package__ or "")


def use(era: str | None) -> None:
    """Report this era's version and show this era's names; None: every idiom at once.

    Raises ConfigError for an era that is not known.
    """
    global _era
    if era is not None and era not in ERAS:
        raise ConfigError(f"era {era!r} is unknown; known: {', '.join(ERAS)}")
    for cls, name, own in reversed(_taken):
        if own is None:
            delattr(cls, name)
        else:
            setattr(cls, name, own)
    _taken.clear()
    _era = era
    for cls in _classes.values():
        _hide_in(cls)


def _hide_in(cls: type) -> None:
    """Put a _Hidden before each member of `cls` that the era has not got, wherever it inherits that from."""
    if _era is None:
        return
    for name in _hidden(cls.__name__):
        found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
        if found is not None:
            _taken.append((cls, name, vars(cls).get(name)))
            setattr(cls, name, _Hidden(found))


@contextlib.contextmanager
def override(era: str | None) -> Iterator[None]:
    """``use(era)`` for the length of a ``with``."""
    previous = _era
    use(era)
    try:
        yield
    finally:
        use(previous)


@functools.cache
def names_of(version: str) -> Mapping[str, frozenset[str]]:
    """Every class of TensorRT ``version`` (one of names.txt's) with its members; "<module>" for the rest."""
    found: dict[str, frozenset[str]] = {}
    section = ""
    for line in Path(__file__).with_name("names.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            section = line[2:]
        elif section == version and not line.startswith("#"):
            cls, _, members = line.partition(":")
            found[cls] = frozenset(members.split())
    return MappingProxyType(found)


@functools.cache
def _all_names() -> Mapping[str, frozenset[str]]:
    union: dict[str, frozenset[str]] = {}
    for version in ("8.2", "8.6", "10.0", "10.16", "11.1"):
        for cls, members in names_of(version).items():
            union[cls] = union.get(cls, frozenset()) | members
    for cls, members in BEFORE_8.items():
        union[cls] = union.get(cls, frozenset()) | members
    return union


def shows(cls: str, member: str | None = None) -> bool:
    """Whether the active era has the class, or its member; names that no version has are always there."""
    if _era is None:
        return True
    here = names_of(ERAS[_era][1])
    if member is None:
        return cls in here or cls not in _all_names()
    if before(10) and member in BEFORE_8.get(cls, ()):
        return True
    return member in here.get(cls, ()) or member not in _all_names().get(cls, ())


def _hidden(cls: str) -> list[str]:
    return [member for member in _all_names().get(cls, ()) if not member.startswith("__") and not shows(cls, member)]


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith(__package__ or "")


def _settable(cls: type, name: str, caller: Any) -> bool:
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    return found is not None and (not isinstance(found, _Hidden) or _is_own(caller))


class Checked:
    """Base of TensorRT's own classes: members obey the era, and an attribute that there is not cannot be set.

    A misspelt ``config.max_workspce_size = …`` is an AttributeError, as with TensorRT, and not silently nothing.
    Classes that programs derive from this may have attributes of their own.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if _is_ours(cls):
            govern(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and _is_ours(type(self)) and not _settable(type(self), name, sys._getframe(1)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r} in TensorRT {_version()}")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r} in TensorRT {_version()}")


def govern(cls: type) -> type:
    """Let a class's members obey the era; for those that cannot derive from Checked."""
    _classes[cls.__name__] = cls
    _hide_in(cls)
    return cls


def _version() -> str:
    return reported_version() if _era is not None else "(any version that trine knows)"


_Function = TypeVar("_Function", bound=Callable[..., Any])
_warned: set[str] = set()


def warn_retired(name: str, instead: str, stacklevel: int = 3) -> None:
    """Say once in a process that ``name`` is gone from today's TensorRT, and what replaced it."""
    if name not in _warned:
        _warned.add(name)
        warnings.warn(f"{name} is retired: use {instead}", DeprecationWarning, stacklevel=stacklevel)


def retired(instead: str) -> Callable[[_Function], _Function]:
    """Mark a method that newer versions of TensorRT no longer have: it works, and warns once."""

    def wrap(function: _Function) -> _Function:
        @functools.wraps(function)
        def warning(*args: Any, **kwargs: Any) -> Any:
            warn_retired(f"{type(args[0]).__name__}.{function.__name__}", instead)
            return function(*args, **kwargs)

        return warning  # type: ignore[return-value]

    return wrap
