"""Compares an imported graph with the eager module, before any pass touches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from trine.engine.manifest import TensorInfo
from trine.errors import ModelImportError, UnsupportedError
from trine.importers.eager import EagerModel
from trine.importers.graph_runner import GraphRunner
from trine.importers.imported_model import Arrays
from trine.verify.inputs import random_inputs
from trine.verify.metrics import measure
from trine.verify.tolerances import budget_for, source_budget

__all__ = ["check_against_eager"]

_SEED = 20_240


def check_against_eager(
    model: ir.Model,
    reference: EagerModel,
    infos: Sequence[TensorInfo],
    examples: Arrays,
    model_name: str,
    hint: str = "",
) -> None:
    """Compares on the example, and on seeded random inputs in which every dynamic dim has another size.

    Raises ModelImportError with the worst output, or with the reason why the check itself could not run.
    """
    runner = GraphRunner(model)
    _compare(runner, reference, examples, "the example inputs", model_name, hint)
    other = _other_inputs(reference, infos, examples)
    sizes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in other.items())
    _compare(runner, reference, other, f"random inputs ({sizes})", model_name, hint)


def _other_inputs(reference: EagerModel, infos: Sequence[TensorInfo], examples: Arrays) -> Arrays:
    """Random inputs whose dynamic dims differ from the example's, in sizes that the module itself accepts."""
    symbols = {
        str(dim): examples[info.name].shape[axis]
        for info in infos
        for axis, dim in enumerate(info.shape)
        if isinstance(dim, str)
    }
    # A batch takes any size; a height may have to be a multiple of some stride, hence the doubling.
    for change in (_another, lambda size: 2 * size):
        sizes = {name: change(size) if name != "batch" else _another(size) for name, size in symbols.items()}
        shapes = {
            info.name: tuple(
                sizes[dim] if isinstance(dim, str) else examples[info.name].shape[axis]
                for axis, dim in enumerate(info.shape)
            )
            for info in infos
        }
        inputs = random_inputs(infos, shapes, _SEED, examples)
        if set(symbols) <= {"batch"}:
            return inputs
        try:
            reference(inputs)
        except Exception:  # noqa: BLE001  # the module refuses this size, in its own words; try the next
            continue
        return inputs
    shapes = {name: array.shape for name, array in examples.items()}
    return random_inputs(infos, shapes, _SEED, examples)


def _another(size: int) -> int:
    """A different size, not 1 or 2, at which traces specialise."""
    return 3 if size < 3 else 2 if size > 4 else size + 1


def _compare(
    runner: GraphRunner,
    reference: EagerModel,
    inputs: Mapping[str, np.ndarray],
    case: str,
    model_name: str,
    hint: str,
) -> None:
    want = reference(inputs)
    try:
        got = runner(inputs)
    except UnsupportedError as err:
        raise UnsupportedError(f"{model_name}: {err}{hint}", err.problems) from err
    for name, expected in want.items():
        actual = got[name]
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            raise ModelImportError(
                f"{model_name}: output {name!r} of the imported graph is {actual.dtype}{list(actual.shape)} on "
                f"{case}; eager gives {expected.dtype}{list(expected.shape)}{hint}"
            )
        metrics = measure(actual, expected)
        info = next(each for each in runner.outputs if each.name == name)
        budget = max(budget_for("fp32"), source_budget(info.dtype))
        if metrics.relative_error > budget or metrics.nonfinite_mismatches:
            again = reference(inputs)[name]
            if not np.array_equal(again, expected, equal_nan=expected.dtype.kind not in "biuSOU"):
                raise ModelImportError(
                    f"{model_name} answers differently each time (output {name!r}): it draws random numbers, or "
                    "keeps state, in eval mode. Make forward a function of its inputs"
                )
            raise ModelImportError(
                f"{model_name}: output {name!r} of the imported graph differs from eager on {case}: relative "
                f"error {metrics.relative_error:.2e}, allowed {budget:.0e}, "
                f"{metrics.nonfinite_mismatches} NaN or Inf out of place{hint}"
            )
