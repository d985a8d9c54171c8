"""Finds the line of a model that turned an open dim into a number."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from trine.errors import ModelImportError
from trine.importers.preflight import deepest_line
from trine.importers.torch_call import FlatModule
from trine.importers.torch_export import export_program

__all__ = ["first_specialization"]


def first_specialization(
    flat: FlatModule, leaves: Mapping[str, torch.Tensor], dims: Mapping[str, Mapping[int, str]]
) -> str:
    """ "file:line: code" where tracing first replaced one of the open ``dims`` by a number; "" if unseen.

    ``torch.export`` knows that a dim was fixed but not where; this traces once more and listens.
    """
    lines: list[str] = []
    # The trace may fail, as it did before: it was fixing a dim on the way that matters.
    with _listening(lines), contextlib.suppress(ModelImportError):
        export_program(flat, leaves, dims)
    return lines[0] if lines else ""


@contextlib.contextmanager
def _listening(lines: list[str]) -> Iterator[None]:
    """Notes the user's line of each replacement of a symbol by a number. A PyTorch without this hook: nothing."""
    original = getattr(ShapeEnv, "_set_replacement", None)
    if original is None:
        yield
        return

    def noted(self: Any, symbol: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(target, "is_number", False):
            frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_stack()]
            inside = max((i for i, (file, _) in enumerate(frames) if file == _FLAT_FILE), default=-1)
            if inside >= 0 and (line := deepest_line(frames[inside + 1 :])):
                lines.append(line)
        return original(self, symbol, target, *args, **kwargs)

    ShapeEnv._set_replacement = noted  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        ShapeEnv._set_replacement = original  # type: ignore[method-assign]


_FLAT_FILE = FlatModule.forward.__code__.co_filename
