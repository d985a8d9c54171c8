"""``trine.verify``: an engine against a model, on inputs of the user's choice."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trine.errors import ConfigError, InputError, TrineError
from trine.runtime.arrays import as_numpy, is_torch
from trine.verify.comparator import compare
from trine.verify.inputs import Case, build_cases
from trine.verify.neighbours import batch_axis
from trine.verify.report import Report

if TYPE_CHECKING:
    from trine.engine.engine import Engine

__all__ = ["reference_of", "verify"]

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


def verify(engine: Engine, model: Any, inputs: Any = None, *, tolerance: float | None = None, seed: int = 0) -> Report:
    """Compare an engine's answers with a model's.

    Args: engine: from ``trine.build`` or ``trine.load``; anything with ``manifest`` and
    ``create_execution_context()``. model: the judge: an ``nn.Module`` (run in eval mode, its own modes
    restored), a path or bytes of ONNX, or a callable that takes the inputs by name as NumPy arrays and
    returns outputs by name, or in the engine's order. inputs: what to call them with: an array, a tuple for
    several inputs, or a dict by name; a list holds several such calls. NumPy, PyTorch, or anything with
    DLPack. None: seeded random inputs at the profile's min, opt and max. tolerance: the largest relative
    error allowed; None: the table's for the engine's precision. seed: for the random inputs, when
    ``inputs`` is None.

    Returns: A report: its ``passed`` says whether every output is within the tolerance, with NaN and Inf
    only where the model has them, and with rows that do not depend on their neighbours where the model's do
    not.

    Raises:
        InputError: an input does not fit the engine.
        InputError: ``model`` itself fails on them.
        ConfigError: ``model`` is nothing that can be called, ``engine`` is none, or ``inputs`` is an empty list.
    """
    if not hasattr(engine, "create_execution_context"):
        raise ConfigError(f"engine: expected an engine, got {type(engine).__name__}; open a file with trine.load first")
    manifest = engine.manifest
    if inputs is None:
        cases = build_cases(manifest.profile, None, manifest.inputs, seed)
    else:
        calls = inputs if isinstance(inputs, list) else [inputs]
        if not calls:
            raise ConfigError("inputs: expected at least one call's arrays, got an empty list")
        names = ["inputs"] if len(calls) == 1 else [f"inputs[{index}]" for index in range(len(calls))]
        cases = tuple(Case(name, _by_name(engine, call)) for name, call in zip(names, calls, strict=True))
    reference = reference_of(model, engine, cases[0].inputs)
    axis = batch_axis(manifest.inputs, manifest.outputs, manifest.profile)
    with engine.create_execution_context() as context:
        return compare(
            context.execute,
            reference,
            cases,
            tolerance,
            precision=manifest.precision,
            seed=seed if inputs is None else None,
            axis=axis,
        )


def reference_of(model: Any, engine: Engine, example: Mapping[str, Array]) -> Callable[[Mapping[str, Array]], Arrays]:
    """``model`` as a callable with the engine's own names for inputs and outputs. Raises ConfigError for
    others."""
    outputs = [info.name for info in engine.manifest.outputs]
    if isinstance(model, str | os.PathLike | bytes):
        return _onnx_reference(model, [info.name for info in engine.manifest.inputs], outputs, example)
    if _is_module(model):
        return _module_reference(model, engine, outputs)
    if callable(model):
        return lambda inputs: _output_names(model(dict(inputs)), outputs)
    raise ConfigError(
        f"model: expected an nn.Module, a path or bytes of ONNX, or a callable on a dict of arrays, "
        f"got {type(model).__name__}"
    )


def _is_module(model: object) -> bool:
    return any(f"{base.__module__}.{base.__name__}" == "torch.nn.modules.module.Module" for base in type(model).mro())


def _module_reference(module: Any, engine: Engine, outputs: list[str]) -> Callable[[Mapping[str, Array]], Arrays]:
    from trine.importers.eager import EagerModel
    from trine.importers.torch_call import check_module

    call = engine.manifest.input_structure
    if call is None:  # the engine was not built from a module: its inputs, in order, are forward's
        parameters = [
            {"name": info.name, "form": "positional_only", "value": {"kind": "tensor", "name": info.name}}
            for info in engine.manifest.inputs
        ]
        call = {"kind": "call", "parameters": parameters}
    eager = EagerModel(module, call, check_module(module))

    def answer(inputs: Mapping[str, Array]) -> Arrays:
        try:
            answers = eager.run(inputs)[1]
        except TrineError:
            raise
        except Exception as err:  # forward is the user's code: anything can come out of it
            shapes = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in inputs.items())
            raise InputError(
                f"model: {type(module).__name__} itself fails on the engine's inputs ({shapes}): {type(err).__name__}: "
                f"{' '.join(str(err).split())[:400]}. Is it the model that the engine was built from?"
            ) from err
        return _output_names(answers, outputs)

    return answer


def _onnx_reference(
    model: str | os.PathLike[str] | bytes, inputs: list[str], outputs: list[str], example: Mapping[str, Array]
) -> Callable[[Mapping[str, Array]], Arrays]:
    from trine.importers.onnx_file import import_onnx

    source = model if isinstance(model, bytes) else Path(model)
    imported = import_onnx(source, tuple(example[name] for name in inputs))
    theirs = list(imported.example_inputs)
    if len(theirs) != len(inputs):
        raise ConfigError(f"model: has {len(theirs)} inputs {theirs}; the engine has {len(inputs)}: {inputs}")
    rename = dict(zip(theirs, theirs if set(theirs) == set(inputs) else inputs, strict=True))
    return lambda given: _output_names(imported.reference({t: given[o] for t, o in rename.items()}), outputs)


def _output_names(answers: Any, outputs: Sequence[str]) -> Arrays:
    """By the engine's names: kept where they are those, else given in order."""
    if isinstance(answers, Mapping):
        if set(answers) == set(outputs) or len(answers) != len(outputs):
            return {name: _array(name, value) for name, value in answers.items()}
        answers = list(answers.values())
    elif not isinstance(answers, tuple | list):
        answers = [answers]
    if len(answers) != len(outputs):
        raise ConfigError(f"model: gives {len(answers)} outputs; the engine has {len(outputs)}: {list(outputs)}")
    return {name: _array(name, value) for name, value in zip(outputs, answers, strict=True)}


def _by_name(engine: Engine, call: Any) -> Arrays:
    """One call's inputs by the engine's names, as NumPy arrays. Raises InputError when they do not fit."""
    from trine.structure import flatten_call

    names = [info.name for info in engine.manifest.inputs]
    structure = engine.manifest.input_structure
    args = call if isinstance(call, tuple) else (call,)
    leaves: Mapping[str, Any]
    if isinstance(call, Mapping) and set(call) == set(names):
        leaves = call
    elif isinstance(call, Mapping) and structure is not None:
        leaves = flatten_call(structure, (), call)
    elif isinstance(call, Mapping):
        leaves = call  # wrong names: the execution context refuses them by name
    elif structure is not None:
        leaves = flatten_call(structure, args, {})
    elif len(args) == len(names):
        leaves = dict(zip(names, args, strict=True))
    else:
        raise ConfigError(
            f"inputs: expected {len(names)} arrays ({', '.join(names)}), got {len(args)}; several calls go in a list"
        )
    return {name: _array(name, value) for name, value in leaves.items()}


def _array(name: str, value: Any) -> Array:
    if is_torch(value) and value.device.type != "cpu":
        value = value.cpu()
    return as_numpy(name, value) if hasattr(value, "__dlpack__") else np.asarray(value)
