"""1 IMPORT: whatever the model came as, one ``ImportedModel`` comes out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trine.errors import ConfigError, ModelImportError
from trine.importers.imported_model import Arrays, ImportedModel

__all__ = ["Arrays", "ImportedModel", "import_model", "is_network"]


def import_model(
    source: Any,
    example_inputs: Any = None,
    *,
    dynamic_axes: Mapping[str, Mapping[int, str]] | str = "auto",
    batch: str = "auto",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    converters: Mapping[str, Any] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> ImportedModel:
    """Imports a ``torch.nn.Module``, an ONNX model from a path or bytes, or a ``trine.network.Network``.

    ``example_inputs`` for a module: a tensor, a tuple or list of positional arguments, or a dict of keyword
    arguments; for ONNX and networks: arrays by name or in order, or None. ``shapes`` and ``seed`` are for those two,
    ``batch`` and ``converters`` for modules. Raises ModelImportError, ConfigError.
    """
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        from trine.importers.onnx_file import import_onnx

        path_or_bytes = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else Path(source)
        imported: ImportedModel = import_onnx(path_or_bytes, example_inputs, shapes=shapes, seed=seed)
        return imported
    if is_network(source):
        from trine.importers.network import import_network

        return import_network(source, example_inputs, shapes=shapes, seed=seed)
    torch = sys.modules.get("torch")
    if torch is None:
        raise ModelImportError(
            "expected a torch.nn.Module, the path or bytes of an ONNX model, or a trine.Network; got "
            f"{type(source).__name__}"
        )
    from trine.importers.torch_call import check_module
    from trine.importers.torch_module import import_torch

    if shapes is not None:
        raise ConfigError("shapes are for ONNX models; a torch.nn.Module takes them from its example inputs")
    check_module(source)
    args, kwargs = _arguments(example_inputs, type(source).__name__)
    return import_torch(
        source,
        args,
        kwargs,
        dynamic_axes=dynamic_axes,
        batch=batch,
        converters=converters,
        on_stage=on_stage,
    )


def is_network(source: Any) -> bool:
    """Whether ``source`` is a ``trine.network.Network``; who has one has loaded its module."""
    module = sys.modules.get("trine.network.network")
    return module is not None and isinstance(source, module.Network)


def _arguments(example_inputs: Any, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if example_inputs is None:
        raise ModelImportError(
            f"{name} needs example inputs: a PyTorch module does not know the shapes that it takes. Give a tensor, "
            "a tuple of positional arguments, or a dict of keyword arguments"
        )
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, Sequence) and not isinstance(example_inputs, str | bytes):
        return tuple(example_inputs), {}
    return (example_inputs,), {}
