"""Properties that several of TensorRT's classes have: values that are kept and shown, threads, and who is told what.

Their classes have the ``Reporter`` that they tell errors to as ``_reporter``.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

__all__ = ["error_recorder", "forget_kept", "kept", "logger", "threads"]

_Value = TypeVar("_Value")


def kept(name: str, default: _Value, doc: str) -> _Value:
    """A value that is kept and shown. It gets the type of ``default``, unless that is None."""
    convert: Any = (lambda value: value) if default is None else type(default)

    def get(self: Any) -> Any:
        return vars(self).get("_kept", {}).get(name, default)

    def put(self: Any, value: Any) -> None:
        vars(self).setdefault("_kept", {})[name] = convert(value)

    return cast(_Value, property(get, put, doc=doc))  # type checkers are to see the value's type


def forget_kept(owner: Any) -> None:
    """Every ``kept`` value as it was at first."""
    vars(owner).pop("_kept", None)


def threads(interface: str, doc: str) -> int:
    """How many threads, in ``_max_threads``. A number below 1 is logged, as TensorRT does."""

    def get(self: Any) -> int:
        return int(self._max_threads)

    def put(self: Any, number: int) -> None:
        if int(number) < 1:
            self._reporter.error(f"{interface}::setMaxThreads", f"expected at least 1, got {number}")
            return
        self._max_threads = int(number)

    return cast(int, property(get, put, doc=doc))


def _set_recorder(self: Any, recorder: Any) -> None:
    self._reporter.recorder = recorder


logger: Any = property(lambda self: self._reporter.logger, doc="What it was made with.")
error_recorder: Any = property(lambda self: self._reporter.recorder, _set_recorder, doc="Is told errors too.")
